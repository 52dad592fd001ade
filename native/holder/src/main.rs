//! `lacuna-holder SOCKET`: keeps file descriptors alive while the processes that use them die and come back.
//!
//! The one thing it must do is not to end: it knows nothing of FUSE, never needs an upgrade, ignores the signals that
//! take its starter's group down, and ends by its command QUIT or by SIGKILL. It returns to its starter (exit status 0,
//! its process id on stdout) when its socket accepts connections, or when another holder already serves that socket.
//!
//! Protocol, one request per connection: one line, a descriptor attached where one goes with it, one line back.
//! State is up to 1 KiB in hex, opaque to the holder.
//!
//! | request | answer |
//! |---|---|
//! | `PUT name [state]` + descriptor | `OK`: it replaces one of the same name |
//! | `GET name` | `OK [state]` + descriptor, or `NONE` |
//! | `STATE name state` | `OK`, or `NONE` |
//! | `DROP name` | `OK` |
//! | `LIST` | `OK [name]…` |
//! | `PID` | `OK pid` |
//! | `QUIT` | `OK`, then the holder ends |

mod daemon;
mod slots;

use lacuna_sys::{recv_with_fd, send_with_fd};
use slots::{Answer, Slots};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A line is never longer: name, state in hex, command.
const MAX_LINE: usize = 4096;
/// How long one client may take; the others wait meanwhile.
const CLIENT_TIME: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(socket), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: lacuna-holder SOCKET");
        return ExitCode::from(2);
    };
    match run(Path::new(&socket)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lacuna-holder: {}: {error}", socket.display());
            ExitCode::FAILURE
        }
    }
}

fn run(socket: &Path) -> io::Result<()> {
    let socket = std::path::absolute(socket)?;
    let Some((lock, listener)) = daemon::claim(&socket)? else { return daemon::wait_for_other(&socket) };
    if daemon::detach()? {
        serve(&listener, &socket);
    }
    // The starter gets here as well: the lock is shared with the child and stays.
    drop(lock);
    Ok(())
}

/// Answers one client after the other until QUIT.
fn serve(listener: &UnixListener, socket: &PathBuf) {
    let mut slots = Slots::default();
    loop {
        let Ok((client, _)) = listener.accept() else {
            // Out of descriptors or memory for the moment: whatever it is, going on is all a holder can do.
            sleep(Duration::from_millis(100));
            continue;
        };
        if !daemon::same_user(&client) {
            continue;
        }
        let Ok((line, fd)) = read_line(&client) else { continue };
        let answer = slots.handle(&line, fd);
        if matches!(answer, Answer::Quit) {
            // Gone before the answer, so that a successor can bind at once.
            let _ = std::fs::remove_file(socket);
        }
        let (text, fd) = answer.parts();
        // A client that has gone away meanwhile is its own problem.
        let _ = send_with_fd(&client, text.as_bytes(), fd.map(AsFd::as_fd));
        if matches!(answer, Answer::Quit) {
            return;
        }
    }
}

/// One line without its end, and the descriptor that came with it.
fn read_line(client: &UnixStream) -> io::Result<(String, Option<OwnedFd>)> {
    client.set_write_timeout(Some(CLIENT_TIME))?;
    let deadline = Instant::now() + CLIENT_TIME;
    let mut line = Vec::new();
    let mut attached = None;
    let mut buffer = [0u8; MAX_LINE];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || line.len() > MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        client.set_read_timeout(Some(left))?;
        let (n, fd) = recv_with_fd(client, &mut buffer).map_err(|e| io::Error::from_raw_os_error(e.errno))?;
        attached = attached.or(fd);
        line.extend(buffer.iter().take(n));
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            let line = String::from_utf8(line).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            return Ok((line, attached));
        }
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
