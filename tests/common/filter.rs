//! System calls that fail as container profiles and older kernels let them fail: seccomp(2).

/// Installs a seccomp filter on this thread, and on what it starts: a system call `number` whose
/// argument `argument` (if given) is `value` fails with `errno`.
pub(crate) fn forbid(number: libc::c_long, argument: Option<(u32, u32)>, errno: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // `struct seccomp_data`: the number, the architecture, the instruction pointer, then six
    // arguments of 8 bytes.
    let (place, value) =
        argument.map_or((0, number as u32), |(argument, value)| (16 + 8 * argument, value));
    let mut program = [
        step(LOAD, 0, 0, 0),
        step(EQUAL, 0, 3, number as u32),
        step(LOAD, 0, 0, place),
        step(EQUAL, 0, 1, value),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program and its steps outlive the calls; the kernel copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            0
        );
    }
}
