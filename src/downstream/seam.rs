//! The seam between `tiny_http` and the kernel: where `std`'s calls are intercepted.
//!
//! `std` calls libc's `accept4` in `TcpListener::accept` and libc's `recv` in
//! `TcpStream::read`, by name. The programs of this package define these two symbols
//! themselves (see [`link_seam!`](crate::link_seam)), so every such call in the process comes
//! here first:
//!
//! - `accept4` on a listener of ours waits for a connection as `Acceptor::accept` does. That
//!   is where connections are counted and where `tiny_http` is kept from starving them.
//! - `recv` on a connection of ours is a call to `Session::advance`: it serves the request
//!   whose ticket `tiny_http` has queued, waits for the next one, and gives `tiny_http` a
//!   **ticket** for it: `GET /COOKIE HTTP/1.1` and an empty line, never anything else.
//!   `tiny_http` queues a request for each ticket and reads on. At the connection's end it
//!   gets 0.
//! - Everything else goes to the kernel, flags and `errno` included.
//!
//! Sockets are known by `SO_COOKIE`, which no two sockets share: `tiny_http` reads on a
//! duplicate, whose descriptor is another one. The rest of the package reads through `rustix`,
//! which makes its system calls without libc and so passes the seam by.
//!
//! What must not happen: a ticket with a body, `Connection: close` or HTTP/1.0 would end
//! `tiny_http`'s loop before it reads again. A panic must not leave these functions. What a
//! thread holds is in thread-locals whose drops clean up, because `tiny_http` may panic.
//!
//! Linux only. `self_check` finds out at start whether `std` still calls what it called.
#![allow(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("the link seam under tiny_http is made for Linux");

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::acceptor::Acceptor;
use super::connection::{Cookie, cookie};
use super::session::Session;
use crate::util::lock::lock;

/// Defines `accept4` and `recv` for the whole program. To be used once, in a binary: the
/// library alone must not bring them.
#[macro_export]
macro_rules! link_seam {
    () => {
        /// Called by `std` in place of libc's function.
        ///
        /// # Safety
        /// As for libc's.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn accept4(
            fd: ::std::ffi::c_int,
            address: *mut ::std::ffi::c_void,
            length: *mut u32,
            flags: ::std::ffi::c_int,
        ) -> ::std::ffi::c_int {
            // SAFETY: the caller's promise is passed on.
            unsafe { $crate::downstream::seam::accept4(fd, address, length, flags) }
        }

        /// Called by `std` in place of libc's function.
        ///
        /// # Safety
        /// As for libc's.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn recv(
            fd: ::std::ffi::c_int,
            buffer: *mut ::std::ffi::c_void,
            length: usize,
            flags: ::std::ffi::c_int,
        ) -> isize {
            // SAFETY: the caller's promise is passed on.
            unsafe { $crate::downstream::seam::recv(fd, buffer, length, flags) }
        }
    };
}

/// The listeners of ours. They stay: a server that has stopped may still have connections.
static ACCEPTORS: Mutex<Vec<Arc<Acceptor>>> = Mutex::new(Vec::new());

/// Descriptors of `self_check`; set to [`PASSED`] when they come through here.
static CHECKED_LISTENER: AtomicI32 = AtomicI32::new(NONE);
static CHECKED_SOCKET: AtomicI32 = AtomicI32::new(NONE);
const NONE: RawFd = -1;
const PASSED: RawFd = -2;

thread_local! {
    /// What an accept thread of `tiny_http`'s accepts for.
    static ACCEPTING: RefCell<Option<AcceptThread>> = const { RefCell::new(None) };
    /// The connection whose thread this is, and the descriptor that `tiny_http` reads on.
    static CURRENT: RefCell<Option<(RawFd, Session)>> = const { RefCell::new(None) };
}

/// Reports its thread's end, which may be a panic.
struct AcceptThread {
    acceptor: Arc<Acceptor>,
    fd: RawFd,
    number: usize,
}

impl Drop for AcceptThread {
    fn drop(&mut self) {
        self.acceptor.leave(self.number);
    }
}

/// From now on the connections of this server pass the seam.
pub(super) fn register(acceptor: &Arc<Acceptor>) {
    lock(&ACCEPTORS).push(Arc::clone(acceptor));
}

/// `accept4` as `std` calls it.
///
/// # Safety
/// As for libc's function: `address` and `length` are null or valid for writes.
pub unsafe fn accept4(fd: c_int, address: *mut c_void, length: *mut u32, flags: c_int) -> c_int {
    let room = if length.is_null() {
        0
    } else {
        // SAFETY: the caller says that it is valid.
        unsafe { *length }
    };
    let take = || {
        if !length.is_null() {
            // SAFETY: the caller says that it is valid. The kernel has shortened it.
            unsafe { *length = room };
        }
        // SAFETY: the arguments are the caller's.
        let result = unsafe { libc::syscall(libc::SYS_accept4, fd, address, length, flags) };
        c_int::try_from(result).unwrap_or(-1)
    };
    let Some((acceptor, number)) = accepting_on(fd) else {
        return take();
    };
    // SAFETY: the caller keeps the descriptor open while it waits for a connection.
    let listener = unsafe { BorrowedFd::borrow_raw(fd) };
    let accepted = catch_unwind(AssertUnwindSafe(|| {
        acceptor.accept(number, listener, || match take() {
            // SAFETY: the kernel has just opened it, for us.
            socket @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(socket) }),
            _ => Err(last_errno()),
        })
    }));
    match accepted {
        Ok(Ok(socket)) => socket.into_raw_fd(),
        Ok(Err(errno)) => fail(errno),
        Err(_) => fail(Errno::INVAL),
    }
}

/// The server for which this thread accepts on `fd`, if it is one of ours.
fn accepting_on(fd: RawFd) -> Option<(Arc<Acceptor>, usize)> {
    let known = ACCEPTING.try_with(|accepting| {
        let accepting = accepting.borrow();
        let accepting = accepting.as_ref().filter(|accepting| accepting.fd == fd)?;
        Some((Arc::clone(&accepting.acceptor), accepting.number))
    });
    if let Some(known) = known.ok()? {
        return Some(known);
    }
    let _ = CHECKED_LISTENER.compare_exchange(fd, PASSED, Ordering::Relaxed, Ordering::Relaxed);
    // SAFETY: it is open, or the call fails.
    let cookie = cookie(unsafe { BorrowedFd::borrow_raw(fd) });
    let acceptor = lock(&ACCEPTORS)
        .iter()
        .find(|acceptor| acceptor.cookie() == cookie)
        .cloned()?;
    let number = acceptor.enter(fd);
    let accepting = AcceptThread {
        acceptor: Arc::clone(&acceptor),
        fd,
        number,
    };
    ACCEPTING
        .try_with(|place| place.replace(Some(accepting)))
        .ok()?;
    Some((acceptor, number))
}

/// `recv` as `std` calls it.
///
/// # Safety
/// As for libc's function: `buffer` is valid for writes of `length` bytes.
pub unsafe fn recv(fd: c_int, buffer: *mut c_void, length: usize, flags: c_int) -> isize {
    let mut session = match reader_of(fd) {
        Reader::Session(session) => session,
        Reader::Gone => return 0,
        Reader::Kernel => {
            let nowhere = std::ptr::null_mut::<c_void>();
            // SAFETY: the arguments are the caller's.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_recvfrom,
                    fd,
                    buffer,
                    length,
                    flags,
                    nowhere,
                    nowhere,
                )
            };
            return isize::try_from(result).unwrap_or(-1);
        }
    };
    let session = catch_unwind(AssertUnwindSafe(|| {
        let goes_on = session.advance();
        goes_on.then_some(session)
    }));
    // The session has been dropped, and the connection with it.
    let Ok(Some(session)) = session else {
        return 0;
    };
    let mut ticket = [0; LONGEST_TICKET];
    let ticket = write_ticket(session.cookie(), &mut ticket);
    let kept = CURRENT.try_with(|current| current.replace(Some((fd, session))));
    // `tiny_http` reads into a buffer of 1,024 bytes.
    if kept.is_err() || ticket.len() > length {
        return 0;
    }
    // SAFETY: the caller says that the buffer is valid for `length` bytes.
    unsafe { std::ptr::copy_nonoverlapping(ticket.as_ptr(), buffer.cast(), ticket.len()) };
    isize::try_from(ticket.len()).unwrap_or(0)
}

/// What answers a `recv`.
#[allow(clippy::large_enum_variant)] // It is moved once.
enum Reader {
    /// The socket is not a client's.
    Kernel,
    Session(Session),
    /// The client has gone before its connection was served.
    Gone,
}

/// Takes this thread's session, if `fd` is what it reads on, or begins one.
fn reader_of(fd: RawFd) -> Reader {
    let current = CURRENT.try_with(|current| {
        let mut current = current.borrow_mut();
        current.take_if(|(known, _)| *known == fd)
    });
    match current {
        Ok(Some((_, session))) => return Reader::Session(session),
        Ok(None) => {}
        // The thread ends.
        Err(_) => return Reader::Kernel,
    }
    let _ = CHECKED_SOCKET.compare_exchange(fd, PASSED, Ordering::Relaxed, Ordering::Relaxed);
    let acceptors = lock(&ACCEPTORS).clone();
    if acceptors.is_empty() {
        return Reader::Kernel;
    }
    // SAFETY: it is open, or the call fails.
    let cookie = cookie(unsafe { BorrowedFd::borrow_raw(fd) });
    let found = acceptors
        .iter()
        .find_map(|acceptor| Some((acceptor, acceptor.table().pick_up(cookie)?)));
    match found {
        None => Reader::Kernel,
        Some((acceptor, connection)) => match Session::begin(acceptor, connection) {
            Some(session) => Reader::Session(session),
            None => Reader::Gone,
        },
    }
}

/// The length of `GET /18446744073709551615 HTTP/1.1` and an empty line.
const LONGEST_TICKET: usize = 38;

fn write_ticket(cookie: Cookie, room: &mut [u8; LONGEST_TICKET]) -> &[u8] {
    let mut rest = room.as_mut_slice();
    // It has room for every cookie.
    let _ = write!(rest, "GET /{cookie} HTTP/1.1\r\n\r\n");
    let left = rest.len();
    room.get(..LONGEST_TICKET - left).unwrap_or_default()
}

/// Checks that `std` accepts and receives through this seam.
///
/// # Errors
/// It does not: connections would reach `tiny_http` unseen. Or there is no loopback interface.
pub(super) fn self_check() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    CHECKED_LISTENER.store(listener.as_raw_fd(), Ordering::Relaxed);
    let (mut accepted, _) = listener.accept()?;
    client.write_all(b"x")?;
    CHECKED_SOCKET.store(accepted.as_raw_fd(), Ordering::Relaxed);
    accepted.read_exact(&mut [0])?;
    let passed =
        [&CHECKED_LISTENER, &CHECKED_SOCKET].map(|checked| checked.load(Ordering::Relaxed));
    if passed == [PASSED, PASSED] {
        return Ok(());
    }
    Err(io::Error::other(
        "this program was built with a standard library whose accept or read does not pass the \
         link seam under tiny_http",
    ))
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

fn fail(errno: Errno) -> c_int {
    // SAFETY: it is this thread's own variable.
    unsafe { *libc::__errno_location() = errno.raw_os_error() };
    -1
}
