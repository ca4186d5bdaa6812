//! What systemd asks of a service: notifications, a socket from outside, and a hardened unit;
//! and `-reuse-port` for restarts without it.

use crate::common::{
    DEADLINE, Gate,
    backend::{Backend, Endpoint, Refused, status},
    client::Client,
    eventually,
    process::Process,
    proxy::{Builder, Proxy, started_on},
};
use rustix::process::Signal;
use socket2::SockRef;
use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            fs::OpenOptionsExt,
            net::{SocketAddr as UnixAddress, UnixDatagram},
        },
    },
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    #[track_caller]
    fn next(&self) -> String {
        self.0.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut datagram = [0; 4096];
        let length = self.0.recv(&mut datagram).unwrap();
        String::from_utf8(datagram[..length].to_vec()).unwrap()
    }

    fn has_nothing_for(&self, span: Duration) -> bool {
        self.0.set_read_timeout(Some(span)).unwrap();
        self.0.recv(&mut [0; 4096]).is_err()
    }
}

#[test]
fn the_manager_is_notified_of_the_start_a_reload_and_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let name = format!("balancing-reverse-proxy-test-{}", std::process::id());
    let abstract_name = UnixAddress::from_abstract_name(&name).unwrap();
    let backend = Backend::always(status(200));
    for (manager, address) in [
        (UnixDatagram::bind(&path), path.to_str().unwrap().to_owned()),
        (UnixDatagram::bind_addr(&abstract_name), format!("@{name}")),
    ] {
        let manager = Manager(manager.unwrap());
        let mut proxy = Proxy::serial(&[&backend, &backend, &backend])
            .env("NOTIFY_SOCKET", &address)
            .start();
        assert_eq!(manager.next(), "STATUS=serving, 3 of 3 endpoints");
        assert_eq!(manager.next(), "READY=1");
        assert_eq!(proxy.get("/").status(), 200);

        let before = monotonic_micros();
        proxy.signal(Signal::HUP);
        let reloading = manager.next();
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let micros: u128 = micros.unwrap().parse().unwrap();
        assert!((before..=monotonic_micros()).contains(&micros), "{micros}");
        assert_eq!(manager.next(), "READY=1");

        proxy.signal(Signal::TERM);
        assert_eq!(manager.next(), "STOPPING=1\nSTATUS=stopping");
        assert!(proxy.wait_for_exit().success());
        assert!(manager.has_nothing_for(Duration::from_millis(1)));
    }
}

fn monotonic_micros() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap().as_micros()
}

#[test]
fn the_status_changes_with_the_endpoints_and_not_without() {
    static WELL: AtomicBool = AtomicBool::new(false);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let sick = Backend::choosing(|_| {
        status(if WELL.load(Ordering::SeqCst) {
            200
        } else {
            503
        })
    });
    let well = Backend::always(status(200));
    let proxy = Proxy::serial(&[&sick, &well])
        .flag("-max-fails", "2")
        .flag("-cooldown", "700ms")
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .start();
    assert_eq!(manager.next(), "STATUS=serving, 2 of 2 endpoints");
    assert_eq!(manager.next(), "READY=1");
    for _ in 0..3 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    assert_eq!(manager.next(), "STATUS=serving, 1 of 2 endpoints");
    // Its time is over: the next request tries it.
    assert_eq!(manager.next(), "STATUS=serving, 2 of 2 endpoints");
    WELL.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    proxy.wait_for_log("not passed over any more");
    assert!(manager.has_nothing_for(Duration::from_millis(100)));
}

#[test]
fn a_manager_that_is_not_there_is_told_in_the_log() {
    let backend = Backend::always(status(200));
    let mut proxy = Proxy::serial(&[&backend])
        .env("NOTIFY_SOCKET", "/nonexistent/notify")
        .start();
    proxy.wait_for_log("cannot notify systemd: no such file or directory");
    assert_eq!(proxy.get("/").status(), 200);
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_for_exit().success());
    // Once, though each notification fails.
    let warnings = proxy.out.to_the_end();
    let warnings = warnings.iter().filter(|line| line.contains("systemd"));
    assert_eq!(warnings.count(), 1);
}

#[test]
fn an_address_that_is_neither_a_path_nor_an_abstract_name_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let backend = Backend::untouched();
    let script = format!("cd {}; exec \"$0\" \"$@\"", directory.path().display());
    for address in ["notify", "./notify", "vsock:2:1", "@", ""] {
        let mut proxy = Proxy::serial(&[&backend])
            .env("NOTIFY_SOCKET", address)
            .within(&["sh", "-c", &script])
            .start();
        proxy.signal(Signal::TERM);
        assert!(proxy.wait_for_exit().success());
        let log = proxy.out.to_the_end();
        assert!(!log.iter().any(|line| line.contains("systemd")), "{log:#?}");
    }
    assert!(manager.has_nothing_for(Duration::from_millis(1)));
}

#[test]
fn a_signal_during_a_reload_is_another_one_and_the_manager_is_notified_of_the_end_of_both() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let backend = Backend::untouched();
    let (one, list) = (backend.url() + "\n", directory.path().join("list"));
    let put = |name: &str| std::fs::rename(directory.path().join(name), &list).unwrap();
    std::fs::write(&list, &one).unwrap();
    let mut proxy = Proxy::serial(&[&format!("@{}", list.display())])
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .start();
    assert_eq!(manager.next(), "STATUS=serving, 1 of 1 endpoints");
    assert_eq!(manager.next(), "READY=1");

    let pipe = directory.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    put("pipe");
    let reload = || {
        proxy.signal(Signal::HUP);
        assert!(manager.next().starts_with("RELOADING=1\n"));
    };
    reload();
    // It can be opened so once the proxy reads it.
    let open = || {
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).custom_flags(libc::O_NONBLOCK);
        options.open(&list).ok()
    };
    let pipe = eventually("a reader", open, Option::is_some);
    std::fs::write(directory.path().join("two"), one.repeat(2)).unwrap();
    put("two");
    // Of the first one of these comes another reload, which stands for the others.
    for _ in 0..3 {
        reload();
    }
    pipe.unwrap().write_all(one.as_bytes()).unwrap();
    let mut both = [manager.next(), manager.next()];
    both.sort();
    assert_eq!(both, ["READY=1", "STATUS=serving, 2 of 2 endpoints"]);
    proxy.wait_for_log("endpoints reloaded: 1 new, 0 gone, 1 kept");
    assert_eq!(proxy.log_with("nothing has changed").len(), 1);
    proxy.signal(Signal::TERM);
    assert_eq!(manager.next(), "STOPPING=1\nSTATUS=stopping");
    assert!(proxy.wait_for_exit().success());
}

/// The proxy with `socket` as descriptor 3, as systemd hands it over.
fn hand_over(builder: Builder, socket: impl Into<OwnedFd>, variables: &str) -> Command {
    let script = format!("exec 3<&0 </dev/null; {variables}; exec \"$0\" \"$@\"");
    let mut command = builder.within(&["sh", "-c", &script]).command();
    command
        .stdin(Stdio::from(socket.into()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

const OURS: &str = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=proxy";

fn start(command: &mut Command) -> (Process, SocketAddr) {
    let process = Process::adopt(command.spawn().unwrap());
    let words = "starting on: ";
    let line = process.out.wait(words, |line| line.contains(words));
    (process, started_on(&line))
}

#[test]
fn a_socket_that_is_handed_over_takes_the_place_of_the_address() {
    let backend = Backend::always(status(200).body("served"));
    for address in ["127.0.0.1:0", "[::]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            assert_eq!(address, "[::]:0", "there is IPv4");
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        let builder = Proxy::serial(&[&backend]).flag("-address", "127.0.0.1:1");
        let (process, address) = start(&mut hand_over(builder, listener, OURS));
        assert_eq!(address.port(), port);
        process.out.wait("the socket", |line| {
            line.contains("using the socket of LISTEN_FDS in place of -address: ")
        });
        assert_eq!(Client::connect(address).get("/").body(), "served");
        // Programs that it may start get neither the socket nor the variables.
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/3", process.pid())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        assert_ne!(flags & rustix::fs::OFlags::CLOEXEC.bits(), 0, "{info}");
    }
}

#[test]
fn a_socket_that_is_handed_over_is_set_up_as_one_of_its_own() {
    let backend = Backend::always(status(200));
    let options = |listener: &TcpListener| {
        let socket = SockRef::from(listener);
        (
            socket.tcp_nodelay().unwrap(),
            socket.keepalive().unwrap(),
            socket.tcp_notsent_lowat().unwrap(),
        )
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let before = options(&listener);
    assert_eq!((before.0, before.1), (false, false));
    let builder = Proxy::serial(&[&backend]);
    let (_process, address) = start(&mut hand_over(builder, listener.try_clone().unwrap(), OURS));
    assert_eq!(options(&listener), (true, true, 128 * 1024));
    // Segments are short on a loopback interface, too.
    let client = TcpStream::connect(address).unwrap();
    assert!(SockRef::from(&client).tcp_mss().unwrap() <= 4 * 1024);
}

#[test]
fn what_waits_in_a_socket_that_is_handed_over_is_left_to_the_next_process() {
    let gate = Gate::closed();
    let first = Backend::replies([status(200).body("first").after(&gate)]);
    let second = Backend::replies([status(200).body("second")]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut old, address) = start(&mut hand_over(
        Proxy::serial(&[&first]),
        listener.try_clone().unwrap(),
        OURS,
    ));
    let mut under_way = Client::connect(address);
    under_way.request("GET /", "");
    first.wait_for_calls(1);
    old.signal(Signal::TERM);
    let words = "stopping balancing-reverse-proxy on SIGTERM";
    old.out.wait(words, |line| line.contains(words));
    // Its own duplicate is closed, and what comes from now on is not its concern.
    let has_it = || {
        let sockets = std::fs::read_dir(format!("/proc/{}/fd", old.pid())).unwrap();
        let links = sockets.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        let ours = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        links.filter(|link| *link == ours).count()
    };
    eventually("its listener", has_it, |number| *number == 0);
    let mut waiting = Client::connect(address);
    waiting.request("GET /", "");
    gate.open();
    assert_eq!(under_way.response().body(), "first");
    assert!(old.wait_for_exit().success());
    let (_new, _) = start(&mut hand_over(Proxy::serial(&[&second]), listener, OURS));
    assert_eq!(waiting.response().body(), "second");
    assert_eq!(first.calls(), 1);
}

#[test]
fn a_process_that_stops_leaves_the_queue_of_a_socket_that_is_handed_over() {
    const CLIENTS: usize = 100;
    let backend = Backend::untouched();
    // As the process stops it may still accept some of them, and on a busy machine even all.
    let left = (0..5).any(|_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut old, address) = start(&mut hand_over(
            Proxy::serial(&[&backend]),
            listener.try_clone().unwrap(),
            OURS,
        ));
        old.signal(Signal::STOP);
        let _clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
        old.signal(Signal::TERM);
        old.signal(Signal::CONT);
        assert!(old.wait_for_exit().success());
        listener.set_nonblocking(true).unwrap();
        listener.accept().is_ok()
    });
    assert!(left);
}

#[test]
fn variables_of_another_process_mean_nothing() {
    let backend = Backend::always(status(200));
    for variables in [
        "export LISTEN_PID=1 LISTEN_FDS=1",
        "export LISTEN_FDS=1",
        "export LISTEN_PID=$$",
        "export LISTEN_PID=$$ LISTEN_FDS=0",
        "export LISTEN_PID=x LISTEN_FDS=y",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let builder = Proxy::serial(&[&backend]);
        let (_process, address) = start(&mut hand_over(builder, listener, variables));
        assert_ne!(address.port(), port, "{variables}");
        assert_eq!(Client::connect(address).get("/").status(), 200);
    }
}

#[test]
fn what_is_no_listening_tcp_socket_is_a_clear_error() {
    let kind = "descriptor 3, which LISTEN_FDS hands over, is not a listening TCP socket";
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener();
    let stream = TcpStream::connect(other.local_addr().unwrap()).unwrap();
    let table: [(OwnedFd, &str, &str); 7] = [
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), OURS, kind),
        (stream.into(), OURS, kind),
        (io::pipe().unwrap().0.into(), OURS, kind),
        (
            listener().into(),
            "exec 3<&-; export LISTEN_PID=$$ LISTEN_FDS=1",
            "LISTEN_FDS is set, but descriptor 3 is not open",
        ),
        (
            listener().into(),
            "export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b",
            "LISTEN_FDS hands over 2 sockets (\"a:b\"), and one is wanted",
        ),
        (
            listener().into(),
            "export LISTEN_PID=$$ LISTEN_FDS=one",
            "LISTEN_FDS hands over one sockets, and one is wanted",
        ),
        (
            listener().into(),
            "export LISTEN_PID=$$ LISTEN_FDS=-1",
            "LISTEN_FDS hands over -1 sockets, and one is wanted",
        ),
    ];
    let backend = Backend::untouched();
    for (socket, variables, message) in table {
        let mut command = hand_over(Proxy::serial(&[&backend]), socket, variables);
        let mut process = Process::adopt(command.spawn().unwrap());
        assert_eq!(process.wait_for_exit().code(), Some(1), "{message}");
        assert_eq!(process.err.to_the_end(), [message]);
    }
}

/// Clients that connect again and again, each for one request, and how often they failed.
struct Load {
    stop: AtomicBool,
    served: AtomicUsize,
    lost: AtomicUsize,
}

impl Load {
    fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            served: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
        }
    }

    fn run(&self, address: SocketAddr) {
        while !self.stop.load(Ordering::SeqCst) {
            let whole = TcpStream::connect_timeout(&address, DEADLINE).is_ok_and(|stream| {
                let mut client = Client::over(stream);
                client
                    .try_send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                    .is_ok()
                    && client
                        .try_response_to("GET")
                        .is_ok_and(|answer| answer.body() == "whole")
            });
            let counter = if whole { &self.served } else { &self.lost };
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn wait_for_more(&self, number: usize) {
        let wanted = self.served.load(Ordering::SeqCst) + number;
        let served = || self.served.load(Ordering::SeqCst);
        eventually("requests", served, |served| *served >= wanted);
    }
}

#[test]
fn a_restart_under_load_loses_no_connection_attempt_of_a_socket_that_outlives_it() {
    let backend = Backend::always(status(200).body("whole"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let next = || {
        let builder = Proxy::serial(&[&backend]);
        start(&mut hand_over(builder, listener.try_clone().unwrap(), OURS)).0
    };
    let load = Load::new();
    let mut process = next();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| load.run(address));
        }
        for _ in 0..3 {
            load.wait_for_more(50);
            process.signal(Signal::TERM);
            assert!(process.wait_for_exit().success());
            process = next();
        }
        load.wait_for_more(50);
        load.stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(load.lost.load(Ordering::SeqCst), 0);
}

#[test]
fn a_second_instance_listens_on_the_same_port_before_the_first_one_stops() {
    let gate = Gate::closed();
    let (first, second) = (
        Backend::always(status(200).body("first").after(&gate)),
        Backend::always(status(200).body("second")),
    );
    let folder = tempfile::tempdir().unwrap();
    let ready_file = folder.path().join("ready");
    let mut old = Proxy::serial(&[&first])
        .flag("-reuse-port", "true")
        .flag("-monitor", ":0")
        .flag("-ready-file", ready_file.to_str().unwrap())
        .start();
    let address = old.address.to_string();
    let lines = || std::fs::read_to_string(&ready_file).unwrap_or_default();
    let ready = eventually("its addresses", lines, |lines| lines.lines().count() == 2);
    let monitor = ready.lines().nth(1).unwrap();
    let written = || {
        std::fs::metadata(&ready_file)
            .and_then(|file| file.modified())
            .ok()
    };
    let of_the_old_one = written();
    // Both have to want it.
    let alone = Proxy::serial(&[&second])
        .flag("-address", &address)
        .command();
    let mut alone = Process::start(alone);
    assert_eq!(alone.wait_for_exit().code(), Some(1));
    let message = format!("cannot bind to address: {address}: address already in use");
    assert_eq!(alone.err.to_the_end(), [message]);

    let mut client = old.client();
    client.request("GET /", "");
    first.wait_for_calls(1);
    let new = Proxy::serial(&[&second])
        .flag("-reuse-port", "true")
        .flag("-address", &address)
        .flag("-monitor", monitor)
        .flag("-ready-file", ready_file.to_str().unwrap())
        .start();
    let is_newer = |at: &Option<std::time::SystemTime>| at.is_some() && *at != of_the_old_one;
    eventually("the new one's file", written, is_newer);
    old.signal(Signal::TERM);
    // Once the old one has closed its listener, the new one gets them all.
    old.wait_for_log("stopping balancing-reverse-proxy on SIGTERM");
    let listening = || {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
        let port = format!(":{:04X} ", new.address.port());
        let lines = tables.into_iter().flatten().collect::<String>();
        let listens = |line: &&str| line.contains(&port) && line.contains(" 0A ");
        lines.lines().filter(listens).count()
    };
    eventually("one listener", listening, |listeners| *listeners == 1);
    for _ in 0..50 {
        assert_eq!(new.get("/").body(), "second");
    }
    gate.open();
    assert_eq!(client.response().body(), "first");
    assert!(old.wait_for_exit().success());
    assert_eq!(first.calls(), 1);
    // It is the new one's file.
    assert!(lines().starts_with(&address));
}

#[test]
fn the_unit_is_hardened() {
    let unit =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/balancing-reverse-proxy.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    for line in [
        "Type=notify",
        "DynamicUser=yes",
        "SystemCallFilter=@system-service",
        "ProtectSystem=strict",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    let mut analyze = Command::new("systemd-analyze");
    // 2.5 of 10 at most.
    analyze.args(["security", "--offline=yes", "--threshold=25", "--no-pager"]);
    match analyze.arg(&unit).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => panic!("{error}"),
        Ok(output) => {
            let report = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{report}");
            assert!(report.contains("Overall exposure level"), "{report}");
        }
    }
}

#[test]
fn an_endpoint_that_is_down_counts_as_passed_over_in_the_status() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let (down, well) = (Refused::new(), Backend::always(status(200)));
    let proxy = Proxy::fanout(&[&down, &well])
        .flag("-max-fails", "1")
        .flag("-cooldown", "1h")
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .start();
    assert_eq!(manager.next(), "STATUS=serving, 2 of 2 endpoints");
    assert_eq!(manager.next(), "READY=1");
    assert_eq!(proxy.get("/").status(), 200);
    assert_eq!(manager.next(), "STATUS=serving, 1 of 2 endpoints");
    let line = proxy.wait_for_log("passed over for 1h0m0s");
    assert!(line.contains(&down.url()), "{line}");
}
