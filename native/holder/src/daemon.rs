//! Becoming the one background process that serves a socket.

use lacuna_sys::{SysError, listen_private, peer_of, try_lock};
use rustix::process::{geteuid, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// How long a running holder may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn io_error(error: SysError) -> io::Error {
    io::Error::from_raw_os_error(error.errno)
}

/// The lock `SOCKET.lock` and the listening socket (0600); None when another holder has the lock. Whoever has it may
/// replace a socket that a dead one left behind.
pub fn claim(socket: &Path) -> io::Result<Option<(OwnedFd, UnixListener)>> {
    let path = socket.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    let Some(lock) = try_lock(&format!("{path}.lock")).map_err(io_error)? else { return Ok(None) };
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = listen_private(path).map_err(io_error)?;
    Ok(Some((lock, listener.into())))
}

/// The lock's owner may just be starting: waits until it answers, and prints its process id.
pub fn wait_for_other(socket: &Path) -> io::Result<()> {
    for _ in 0..100 {
        if let Ok(mut other) = UnixStream::connect(socket) {
            other.set_read_timeout(Some(PATIENCE))?;
            other.write_all(b"PID\n")?;
            let mut answer = String::new();
            other.take(64).read_to_string(&mut answer)?;
            print!("{}", answer.strip_prefix("OK ").ok_or(io::ErrorKind::InvalidData)?);
            return Ok(());
        }
        sleep(Duration::from_millis(20));
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Forks; true in the child, which is a session of its own without a terminal, a working directory or open standard
/// streams. The parent waits until it is, since until then it would die with the parent's group; then it prints the
/// child's process id.
pub fn detach() -> io::Result<bool> {
    let (mut detached, tell) = io::pipe()?;
    // SAFETY: no other thread runs.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        become_daemon()?;
        // A starter that was killed meanwhile does not hear it.
        let _ = (&tell).write_all(b"1");
        return Ok(true);
    }
    drop(tell);
    // The end instead of a byte: the child has failed and said why.
    detached.read_exact(&mut [0])?;
    println!("{child}");
    Ok(false)
}

fn become_daemon() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    std::env::set_current_dir("/")?;
    // The child does not lead a process group, so it succeeds.
    setsid()?;
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE] {
        // SAFETY: no code of ours runs when a signal is ignored.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    // Of all processes this one costs least and is missed most. Without the privilege it is as any other.
    if let Ok(mut score) = OpenOptions::new().write(true).open("/proc/self/oom_score_adj") {
        let _ = score.write_all(b"-900");
    }
    Ok(())
}

/// Descriptors go only to the holder's own user, whatever the mode of the socket has become.
pub fn same_user(client: &UnixStream) -> bool {
    peer_of(client).is_ok_and(|peer| peer.uid == geteuid().as_raw())
}
