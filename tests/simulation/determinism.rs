//! Time and randomness of the whole process: every clock and every random byte that std, tokio, jiff, kube and the operator ask the
//! system for come from the simulation instead.

#![allow(unsafe_code, reason = "two functions of the C library are replaced, the addresses of a child process fixed, and its time limited")]

use std::cell::Cell;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::apiserver::EPOCH;

/// What the monotonic clock shows then; far from zero, since programs subtract from it.
const UPTIME: i64 = 1_000_000;

static ON: AtomicBool = AtomicBool::new(false);
/// Nanoseconds since the beginning, as last seen.
static NOW: AtomicU64 = AtomicU64::new(0);
/// By how many seconds the clock on the wall is wrong.
static STEPPED: AtomicI64 = AtomicI64::new(0);
static RANDOM: AtomicU64 = AtomicU64::new(0);
static ZERO: OnceLock<std::time::Instant> = OnceLock::new();

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Next of a sequence of random numbers (splitmix64).
pub fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Seeds of the hash maps that kube's caches are. Left alone, they are made of addresses, which are others in each build: a failure
/// would be replayed only by the binary that met it.
struct Hashes(AtomicU64);

impl ahash::random_state::RandomSource for Hashes {
    fn gen_hasher_seed(&self) -> usize {
        let mut state = self.0.load(Ordering::SeqCst);
        let seed = next(&mut state);
        self.0.store(state, Ordering::SeqCst);
        usize::try_from(seed).unwrap_or(usize::MAX)
    }
}

/// From here on, time stands still unless a paused tokio runtime moves it, and randomness is this seed's.
pub fn begin(seed: u64) {
    assert!(!ON.swap(true, Ordering::SeqCst), "one simulation for each process");
    RANDOM.store(seed ^ 0x5eed_5eed_5eed_5eed, Ordering::SeqCst);
    let hashes = Hashes(AtomicU64::new(seed ^ 0x4a54_4a54_4a54_4a54));
    assert!(ahash::random_state::set_random_source(hashes).is_ok(), "something has been hashed before");
    let _ = ZERO.set(std::time::Instant::now());
}

/// The clock on the wall is put forward, or back; the monotonic one is not.
pub fn step(seconds: i64) {
    STEPPED.fetch_add(seconds, Ordering::SeqCst);
}

/// Milliseconds since the beginning.
pub fn now() -> u64 {
    virtual_now() / 1_000_000
}

/// Whoever holds the runtime's clock knows how far time is; between two runtimes it stands still.
fn virtual_now() -> u64 {
    if INSIDE.replace(true) {
        return NOW.load(Ordering::SeqCst);
    }
    let seen = ZERO.get().map(|zero| tokio::time::Instant::now().into_std().duration_since(*zero));
    let seen = seen.and_then(|passed| u64::try_from(passed.as_nanos()).ok()).unwrap_or(0);
    let now = seen.max(NOW.load(Ordering::SeqCst));
    NOW.store(now, Ordering::SeqCst);
    INSIDE.set(false);
    now
}

/// Replaces the C library's.
///
/// # Safety
/// `time` is what callers of `clock_gettime` give: writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    if !ON.load(Ordering::SeqCst) {
        // SAFETY: the caller's arguments, handed on.
        let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return libc::c_int::try_from(result).unwrap_or(-1);
    }
    let now = virtual_now();
    let wall = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    let base = if wall { EPOCH + STEPPED.load(Ordering::SeqCst) } else { UPTIME };
    let seconds = i64::try_from(now / 1_000_000_000).unwrap_or(i64::MAX);
    let nanos = i64::try_from(now % 1_000_000_000).unwrap_or(0);
    // SAFETY: writable by contract.
    unsafe { *time = libc::timespec { tv_sec: base + seconds, tv_nsec: nanos } };
    0
}

/// Replaces the C library's.
///
/// # Safety
/// `buffer` has room for `length` bytes, as callers of `getrandom` promise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut libc::c_void, length: libc::size_t, flags: libc::c_uint) -> libc::ssize_t {
    if !ON.load(Ordering::SeqCst) {
        // SAFETY: the caller's arguments, handed on.
        let result = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return libc::ssize_t::try_from(result).unwrap_or(-1);
    }
    let mut state = RANDOM.load(Ordering::SeqCst);
    // SAFETY: the caller's buffer, for the length that it gave.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for byte in bytes {
        *byte = next(&mut state).to_le_bytes()[0];
    }
    RANDOM.store(state, Ordering::SeqCst);
    libc::ssize_t::try_from(length).unwrap_or(-1)
}

/// The system ends the process when it has computed for longer: time may stand still for ever where everybody is busy. No thread
/// watches it: a second one would share the heap, and addresses would vary.
pub fn end_after(seconds: u64) {
    let limit = libc::rlimit { rlim_cur: seconds, rlim_max: seconds };
    // SAFETY: a system call that reads this structure; the signal has its default action.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CPU, &raw const limit);
    }
}

/// Nothing should depend on addresses; what does all the same sees the same ones every time, where the system permits that.
pub fn same_addresses(command: &mut Command) {
    // SAFETY: a system call without memory, allowed between fork and exec. Where it is refused, addresses vary.
    unsafe {
        command.pre_exec(|| {
            libc::personality(0x0004_0000);
            Ok(())
        });
    }
}
