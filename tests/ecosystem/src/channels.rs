//! async-channel between two runtimes; tests/libraries.rs of the crate has the others.

use annulus::block_on;

#[test]
fn a_channel_carries_items_between_two_runtimes_and_ends() {
    let (sender, receiver) = async_channel::bounded(2);
    let sends = std::thread::spawn(move || {
        block_on(async move {
            for number in 0..1000 {
                sender.send(number).await.expect("the receiver is there");
            }
        });
    });
    block_on(async {
        for number in 0..1000 {
            assert_eq!(receiver.recv().await, Ok(number));
        }
        assert!(receiver.recv().await.is_err());
    });
    sends.join().expect("no panic");
}
