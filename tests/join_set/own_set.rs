//! Members that abort, drop or ask the set that they are in.

use super::*;

#[test]
fn a_member_that_aborts_its_own_set_ends_where_it_next_waits() {
    block_on(async {
        let set = Rc::new(RefCell::new(JoinSet::new()));
        let inner = Rc::clone(&set);
        let past_the_wait = Rc::new(Cell::new(false));
        let passed = Rc::clone(&past_the_wait);
        set.borrow_mut().spawn(async move {
            inner.borrow_mut().abort_all();
            yield_now().await;
            passed.set(true);
        });
        let inner = Rc::clone(&set);
        set.borrow_mut().spawn(async move { inner.borrow_mut().abort_all() });
        let mut cancelled = 0;
        while let Some(result) = poll_fn(|context| set.borrow_mut().poll_join_next(context)).await {
            cancelled += usize::from(result.expect_err("aborted by the first").is_cancelled());
        }
        assert_eq!(cancelled, 2);
        assert!(!past_the_wait.get());
    });
}

#[test]
fn a_member_that_aborts_its_own_set_and_returns_keeps_its_result() {
    block_on(async {
        let set = Rc::new(RefCell::new(JoinSet::new()));
        let inner = Rc::clone(&set);
        set.borrow_mut().spawn(async move {
            inner.borrow_mut().abort_all();
            8
        });
        let result = poll_fn(|context| set.borrow_mut().poll_join_next(context)).await;
        assert_eq!(result.expect("a task").expect("it returned"), 8);
    });
}

#[test]
fn a_member_can_drop_its_own_set() {
    block_on(async {
        let drops = Drops::default();
        let set = Rc::new(RefCell::new(Some(JoinSet::<()>::new())));
        let inner = Rc::clone(&set);
        let guard = drops.guard();
        set.borrow_mut().as_mut().expect("not yet").spawn(async move {
            let _guard = guard;
            let own = inner.borrow_mut().take();
            drop(own);
            pending().await
        });
        set.borrow_mut().as_mut().expect("not yet").spawn(hold(drops.guard()));
        turns(3).await;
        assert_eq!(drops.count(), 2);
    });
}

#[test]
fn a_future_can_look_for_results_while_it_is_dropped() {
    block_on(async {
        let set = Rc::new(RefCell::new(JoinSet::<()>::new()));
        let inner = Rc::clone(&set);
        let found = Rc::new(Cell::new(0));
        let finds = Rc::clone(&found);
        set.borrow_mut().spawn(hold(OnDrop(move || {
            let result = inner.borrow_mut().try_join_next();
            finds.set(finds.get() + usize::from(result.is_some()));
        })));
        turns(1).await;
        set.borrow_mut().abort_all();
        turns(2).await;
        assert_eq!(found.get(), 0, "its end is not recorded before it has ended");
        assert!(
            set.borrow_mut().try_join_next().expect("a task").expect_err("aborted").is_cancelled()
        );
    });
}
