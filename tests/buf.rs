//! Buffers, slices of them and errors that carry them. Where the kernel would write, the tests
//! write through the same pointer.

#![allow(unsafe_code)]

use annulus::buf::{AlignedBuffer, Error, IoBuf, IoBufMut};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// What a read that delivers `data` does to a buffer: as much as fits from the start, then the
/// length.
fn kernel_read(buffer: &mut impl IoBufMut, data: &[u8]) -> usize {
    let count = data.len().min(buffer.capacity());
    // SAFETY: the buffer is borrowed mutably and promises `capacity` bytes from its pointer; the
    // first `count` are initialised by the copy.
    unsafe {
        std::ptr::copy_nonoverlapping(data.as_ptr(), buffer.as_mut_ptr(), count);
        buffer.set_init_len(count);
    }
    count
}

/// What a write of a buffer delivers.
fn kernel_write(buffer: &impl IoBuf) -> Vec<u8> {
    buffer.as_init().to_vec()
}

fn holds_hello_at_one_address<B: IoBuf>(buffer: B) {
    let address = buffer.as_init_ptr();
    assert!(!address.is_null());
    let moved = Box::new([buffer]);
    assert_eq!(moved[0].as_init_ptr(), address);
    assert_eq!(moved[0].init_len(), 5);
    assert_eq!(kernel_write(&moved[0]), b"hello");
    let [buffer] = *moved;
    let slice = buffer.slice(1..3);
    assert_eq!(slice.as_init_ptr(), address.wrapping_add(1));
    assert_eq!(kernel_write(&slice), b"el");
    assert_eq!(slice.into_inner().as_init_ptr(), address);
}

fn fills_at_one_address<B: IoBufMut>(mut buffer: B) {
    let address = buffer.as_mut_ptr();
    assert_eq!(address.cast_const(), buffer.as_init_ptr());
    let capacity = buffer.capacity();
    assert!(capacity >= 5 && buffer.init_len() <= capacity);
    let mut moved = Box::new([buffer]);
    assert_eq!((moved[0].as_mut_ptr(), moved[0].capacity()), (address, capacity));
    assert_eq!(kernel_read(&mut moved[0], b"olleh"), 5);
    assert_eq!(&kernel_write(&moved[0])[..5], b"olleh");
    assert_eq!(kernel_read(&mut moved[0], &vec![7; capacity + 1]), capacity);
    assert_eq!(kernel_write(&moved[0]), vec![7; capacity]);
    assert_eq!((moved[0].as_mut_ptr(), moved[0].capacity()), (address, capacity));
}

#[test]
fn every_owner_of_bytes_keeps_their_address_when_it_moves() {
    holds_hello_at_one_address(b"hello".to_vec());
    holds_hello_at_one_address(b"hello".to_vec().into_boxed_slice());
    holds_hello_at_one_address(Box::new(*b"hello"));
    holds_hello_at_one_address(String::from("hello"));
    holds_hello_at_one_address(Box::<str>::from("hello"));
    holds_hello_at_one_address("hello");
    holds_hello_at_one_address(&b"hello"[..]);
    holds_hello_at_one_address(Rc::<[u8]>::from(&b"hello"[..]));
    holds_hello_at_one_address(Arc::<[u8]>::from(&b"hello"[..]));
    holds_hello_at_one_address(aligned(b"hello", 512));
    holds_hello_at_one_address(b"-hello-".to_vec().slice(1..6));
}

#[test]
fn every_writable_buffer_takes_its_capacity_at_one_address() {
    fills_at_one_address(Vec::with_capacity(9));
    fills_at_one_address(b"hello".to_vec());
    fills_at_one_address(vec![1; 9].into_boxed_slice());
    fills_at_one_address(Box::new([1; 9]));
    fills_at_one_address(AlignedBuffer::new(9, 64));
    fills_at_one_address(aligned(b"hello", 64));
    fills_at_one_address(vec![1; 9].slice(2..8));
    fills_at_one_address(Vec::with_capacity(9).spare());
}

#[test]
fn the_length_of_a_vector_becomes_what_was_read() {
    let mut buffer = b"longer than that".to_vec();
    assert_eq!(kernel_read(&mut buffer, b"short"), 5);
    assert_eq!(buffer, b"short");
    let mut empty = Vec::with_capacity(100);
    assert_eq!(kernel_read(&mut empty, b"some"), 4);
    assert_eq!(empty, b"some");
}

#[test]
fn a_box_keeps_its_length() {
    let mut buffer = Box::new(*b"0123456789");
    assert_eq!(kernel_read(&mut buffer, b"abc"), 3);
    assert_eq!(buffer.init_len(), 10);
    assert_eq!(&buffer[..], b"abc3456789");
}

#[test]
fn buffers_without_room_say_so() {
    assert_eq!(IoBufMut::capacity(&Vec::new()), 0);
    assert_eq!(Box::new([0; 0]).capacity(), 0);
    assert_eq!(AlignedBuffer::new(0, 4096).capacity(), 0);
    assert_eq!(vec![0; 8].slice(3..3).capacity(), 0);
    assert_eq!(kernel_write(&Vec::new().slice(..)), b"");
}

#[test]
fn other_clones_of_shared_bytes_can_be_read_meanwhile() {
    let shared: Arc<[u8]> = Arc::from(&b"hello"[..]);
    let given = shared.clone().slice(..2);
    assert_eq!((&shared[..], kernel_write(&given)), (&b"hello"[..], b"he".to_vec()));
}

#[test]
fn a_slice_cuts_what_is_written() {
    let slice = b"0123456789".to_vec().slice(2..=5);
    assert_eq!(kernel_write(&slice), b"2345");
    assert_eq!((slice.begin(), slice.end(), slice.get_ref().len()), (2, Some(6), 10));
    let beyond = b"0123".to_vec().slice(2..100);
    assert_eq!(kernel_write(&beyond), b"23");
    assert_eq!(beyond.end(), Some(100));
    assert_eq!(kernel_write(&"hello".slice(5..)), b"");
}

#[test]
fn a_slice_cuts_what_is_read() {
    let mut slice = b"0123456789".to_vec().slice(2..6);
    assert_eq!(kernel_read(&mut slice, b"abcdefgh"), 4);
    assert_eq!(slice.into_inner(), b"01abcd6789");
}

#[test]
fn a_short_read_into_a_slice_leaves_the_older_bytes_behind_it() {
    let mut slice = b"0123456789".to_vec().slice(2..6);
    let count = kernel_read(&mut slice, b"ab");
    assert_eq!((&slice[..count], &slice[..]), (&b"ab"[..], &b"ab45"[..]));
    assert_eq!(slice.into_inner(), b"01ab456789");
}

#[test]
fn a_read_into_a_slice_lengthens_the_vector_up_to_where_it_came() {
    let mut buffer = Vec::with_capacity(16);
    buffer.extend_from_slice(b"0123");
    let mut slice = buffer.slice(2..10);
    assert_eq!((slice.init_len(), slice.capacity()), (2, 8));
    assert_eq!(kernel_read(&mut slice, b"abcde"), 5);
    assert_eq!(&slice[..], b"abcde");
    assert_eq!(slice.into_inner(), b"01abcde");
}

#[test]
fn an_open_end_is_where_the_capacity_ends() {
    let mut buffer = Vec::with_capacity(16);
    buffer.extend_from_slice(b"0123");
    let capacity = buffer.capacity();
    let slice = buffer.slice(3..);
    assert_eq!((slice.end(), slice.init_len(), slice.capacity()), (None, 1, capacity - 3));
    let beyond = slice.into_inner().slice(3..1000);
    assert_eq!((beyond.end(), beyond.init_len(), beyond.capacity()), (Some(1000), 1, capacity - 3));
}

#[test]
fn reading_into_the_spare_part_appends() {
    let mut buffer = Vec::with_capacity(16);
    buffer.extend_from_slice(b"head ");
    let mut spare = buffer.spare();
    assert_eq!(kernel_write(&spare), b"");
    assert_eq!(kernel_read(&mut spare, b"tail"), 4);
    assert_eq!(spare.into_inner(), b"head tail");
    assert_eq!(Box::new([0; 4]).spare().capacity(), 0);
}

#[test]
fn a_slice_of_a_slice_counts_from_the_outer_one() {
    let mut slice = b"0123456789".to_vec().slice(2..8).slice(1..3);
    assert_eq!(kernel_write(&slice), b"34");
    assert_eq!(kernel_read(&mut slice, b"abc"), 2);
    assert_eq!(slice.into_inner().into_inner(), b"012ab56789");
    let open = b"0123456789".to_vec().slice(2..8).slice(4..);
    assert_eq!((open.end(), open.capacity()), (None, 2));
}

#[test]
#[should_panic(expected = "starts at 5, but only 4 bytes are initialised")]
fn a_slice_cannot_start_after_the_initialised_bytes() {
    let mut buffer = Vec::with_capacity(16);
    buffer.extend_from_slice(b"0123");
    let _slice = buffer.slice(5..);
}

#[test]
#[should_panic(expected = "starts at 3 but ends at 2")]
fn a_slice_cannot_end_before_it_starts() {
    #[allow(clippy::reversed_empty_ranges)]
    let _slice = b"0123".to_vec().slice(3..2);
}

#[test]
fn ranges_at_the_end_of_the_address_space_do_not_overflow() {
    assert_eq!(&b"0123".to_vec().slice(1..=usize::MAX)[..], b"123");
    let after_the_last = (std::ops::Bound::Excluded(usize::MAX), std::ops::Bound::Unbounded);
    assert!(std::panic::catch_unwind(|| b"0123".to_vec().slice(after_the_last)).is_err());
}

#[test]
fn debug_output_of_buffers_does_not_show_their_bytes() {
    assert_eq!(format!("{:?}", b"secret".to_vec().slice(1..)), "Slice { begin: 1, end: None, .. }");
    let text = format!("{:?}", aligned(b"secret", 64));
    assert!(text.contains("len: 6, capacity: 6, alignment: 64"), "{text}");
}

fn aligned(bytes: &[u8], alignment: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::new(bytes.len(), alignment);
    buffer.extend_from_slice(bytes);
    buffer
}

#[test]
fn an_aligned_buffer_is_aligned_whatever_its_capacity() {
    for alignment in (0..16).map(|power| 1 << power) {
        for capacity in [0, 1, 511, 4096, 10_000] {
            let buffer = AlignedBuffer::new(capacity, alignment);
            assert_eq!(buffer.as_init_ptr() as usize % alignment, 0);
            assert_eq!(
                (buffer.capacity(), buffer.alignment(), buffer.len()),
                (capacity, alignment, 0)
            );
            assert_eq!(&buffer[..], b"");
        }
    }
    let page = AlignedBuffer::with_page_alignment(1);
    assert!(page.alignment() >= 4096);
    assert_eq!(page.as_init_ptr() as usize % page.alignment(), 0);
}

#[test]
fn an_aligned_buffer_changes_its_length_within_its_capacity() {
    let mut buffer = AlignedBuffer::new(16, 512);
    assert!(buffer.is_empty());
    buffer.extend_from_slice(b"hello");
    buffer.resize(8, b'.');
    assert_eq!(&buffer[..], b"hello...");
    buffer[0] = b'j';
    buffer.resize(6, b'!');
    buffer.truncate(100);
    assert_eq!(buffer.as_ref(), b"jello.");
    buffer.truncate(1);
    buffer.resize(16, b'-');
    assert_eq!(&buffer[..], b"j---------------");
    buffer.extend_from_slice(b"");
    buffer.as_mut().fill(0);
    assert_eq!(&buffer[..], [0; 16]);
    buffer.clear();
    assert_eq!((buffer.len(), buffer.capacity()), (0, 16));
}

#[test]
#[should_panic(expected = "it holds 3 of 4 bytes and has no room for 2 more")]
fn an_aligned_buffer_does_not_grow_to_append() {
    let mut buffer = AlignedBuffer::new(4, 512);
    buffer.extend_from_slice(b"abc");
    buffer.extend_from_slice(b"de");
}

#[test]
#[should_panic(expected = "it holds 0 of 4 bytes and has no room for 5 more")]
fn an_aligned_buffer_does_not_grow_to_resize() {
    AlignedBuffer::new(4, 512).resize(5, 0);
}

#[test]
#[should_panic(expected = "must be a power of two, and 24 is not")]
fn an_alignment_is_a_power_of_two() {
    AlignedBuffer::new(4096, 24);
}

#[test]
#[should_panic(expected = "does not fit into the address space")]
fn an_aligned_buffer_fits_into_the_address_space() {
    AlignedBuffer::new(usize::MAX, 1);
}

#[test]
fn an_aligned_buffer_can_go_to_another_thread() {
    let buffer = aligned(b"hello", 64);
    let buffer = std::thread::spawn(move || buffer).join().expect("the thread does not panic");
    std::thread::scope(|scope| scope.spawn(|| assert_eq!(&buffer[..], b"hello")).join())
        .expect("nor this one");
}

/// Can be neither shown nor cloned nor compared, as a user's own buffer may be.
struct Opaque(Vec<u8>);

fn failing(buffer: Opaque) -> Result<(usize, Opaque), Error<Opaque>> {
    Err(Error::new(io::Error::from_raw_os_error(libc::ECANCELED), buffer).with_transferred(2))
}

#[test]
fn an_error_becomes_an_io_error_with_the_errno_intact() {
    fn caller() -> io::Result<usize> {
        let (count, _buffer) = failing(Opaque(vec![1, 2, 3]))?;
        Ok(count)
    }
    let error = caller().expect_err("it fails");
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
}

#[test]
fn an_error_can_be_boxed_and_sent() {
    fn caller() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        failing(Opaque(Vec::new()))?;
        Ok(())
    }
    assert_eq!(
        caller().expect_err("it fails").to_string(),
        io::Error::from_raw_os_error(libc::ECANCELED).to_string()
    );
}

#[test]
fn an_error_gives_the_buffer_back() {
    let Err(error) = failing(Opaque(vec![1, 2, 3])) else { panic!("it fails") };
    assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::ECANCELED), 2));
    assert_eq!(error.kind(), error.get_ref().kind());
    assert_eq!(error.buffer().0, [1, 2, 3]);
    let error = error.map(|opaque| opaque.0);
    assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::ECANCELED), 2));
    let (io_error, buffer) = error.into_parts();
    assert_eq!((io_error.raw_os_error(), buffer), (Some(libc::ECANCELED), vec![1, 2, 3]));
    let Err(error) = failing(Opaque(vec![4])) else { panic!("it fails") };
    assert_eq!(error.into_buffer().0, [4]);
}

#[test]
fn an_error_says_what_the_io_error_says_and_hides_the_buffer() {
    let error = Error::new(io::Error::other("the device is on fire"), b"secret".to_vec());
    assert_eq!(error.to_string(), "the device is on fire");
    let text = format!("{error:?}");
    assert!(
        text.contains("on fire") && text.contains("transferred: 0") && !text.contains("115"),
        "{text}"
    );
    assert!(
        std::error::Error::source(&error).is_none(),
        "the message must not appear twice in a chain of sources"
    );
}

#[cfg(feature = "bytes")]
mod bytes_feature {
    use super::*;
    use annulus::buf::Slice;
    use bytes::{Bytes, BytesMut};

    #[test]
    fn bytes_keep_their_address() {
        holds_hello_at_one_address(Bytes::from_static(b"hello"));
        holds_hello_at_one_address(Bytes::from(b"hello".to_vec()));
        holds_hello_at_one_address(Bytes::from_owner(*b"hello"));
        holds_hello_at_one_address(BytesMut::from(&b"hello"[..]));
        fills_at_one_address(BytesMut::with_capacity(9));
        fills_at_one_address(BytesMut::from(&b"hello"[..]));
    }

    #[test]
    fn halves_of_one_block_do_not_touch_each_other() {
        let mut front = BytesMut::from(&b"0123456789ab"[..]);
        let mut back = front.split_off(5);
        fills_at_one_address(front);
        assert_eq!(&back[..], b"56789ab");
        let front = back.split_to(2);
        fills_at_one_address(back.slice(..));
        assert_eq!(&front[..], b"56");
    }

    #[test]
    fn reading_appends_to_the_spare_part() {
        let mut buffer = BytesMut::with_capacity(32);
        buffer.extend_from_slice(b"head ");
        let mut spare = buffer.spare();
        assert_eq!(kernel_read(&mut spare, b"tail"), 4);
        assert_eq!(spare.into_inner(), &b"head tail"[..]);
    }

    #[test]
    fn both_methods_called_slice_can_be_reached() {
        let buffer = Bytes::from_static(b"hello");
        let borrowed: Bytes = Bytes::slice(&buffer, 1..);
        let owned: Slice<Bytes> = buffer.slice(1..);
        assert_eq!(borrowed, &owned[..]);
    }
}

/// What a slice should do, written for a plain vector: `(begin, end)` of each slice, outermost
/// first.
fn model_read(
    buffer: &mut Vec<u8>,
    capacity: usize,
    ranges: &[(usize, usize)],
    data: &[u8],
) -> usize {
    let begin: usize = ranges.iter().map(|&(begin, _)| begin).sum();
    let mut end = capacity;
    let mut outer = 0;
    for &(inner, until) in ranges {
        end = end.min(outer + until);
        outer += inner;
    }
    let count = data.len().min(end - begin);
    buffer.resize(buffer.len().max(begin + count), 0);
    buffer[begin..begin + count].copy_from_slice(&data[..count]);
    count
}

/// A failing case is printed with its seed, and the seed kept next to this file so that the next
/// run begins with it.
fn config(cases: u32) -> ProptestConfig {
    let persistence = FileFailurePersistence::WithSource("regressions");
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(persistence)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn a_slice_does_what_the_same_range_of_a_vector_does(
        initial in prop::collection::vec(any::<u8>(), 0..40),
        spare in 0..40usize,
        first in (any::<prop::sample::Index>(), 0..60usize),
        second in (any::<prop::sample::Index>(), 0..60usize),
        reads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..4),
    ) {
        let mut buffer = Vec::with_capacity(initial.len() + spare);
        buffer.extend_from_slice(&initial);
        let capacity = buffer.capacity();
        let mut model = initial;

        let begin = first.0.index(buffer.len() + 1);
        let outer_range = (begin, begin + first.1);
        let outer = buffer.slice(outer_range.0..outer_range.1);
        let begin = second.0.index(outer.init_len() + 1);
        let inner_range = (begin, begin + second.1);
        let mut inner = outer.slice(inner_range.0..inner_range.1);
        for data in reads {
            let expected = model_read(&mut model, capacity, &[outer_range, inner_range], &data);
            prop_assert_eq!(kernel_read(&mut inner, &data), expected);
            prop_assert_eq!(&inner[..expected], &data[..expected]);
            let start = outer_range.0 + inner_range.0;
            prop_assert_eq!(&inner[..], &model[start..start + inner.init_len()]);
        }
        prop_assert_eq!(inner.into_inner().into_inner(), model);
    }

    #[test]
    fn an_aligned_buffer_does_what_a_vector_does(
        capacity in 0..64usize,
        steps in prop::collection::vec((0..4u8, 0..64usize, any::<u8>()), 0..20),
    ) {
        let mut buffer = AlignedBuffer::new(capacity, 64);
        let mut model = Vec::new();
        for (step, count, byte) in steps {
            match step {
                0 if model.len() + count <= capacity => {
                    buffer.extend_from_slice(&vec![byte; count]);
                    model.extend_from_slice(&vec![byte; count]);
                }
                1 if count <= capacity => {
                    buffer.resize(count, byte);
                    model.resize(count, byte);
                }
                2 => {
                    buffer.truncate(count);
                    model.truncate(count);
                }
                _ => {
                    let data = vec![byte; count];
                    let read = kernel_read(&mut buffer, &data);
                    model = data[..read].to_vec();
                }
            }
            prop_assert_eq!(&buffer[..], &model[..]);
        }
    }
}
