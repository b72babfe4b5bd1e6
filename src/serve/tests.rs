//! The service over a real socket.

use xlate_abi::protocol::{Blob, BlockProfile, CodeBytes, CodeOptions, CompileRequest, FlagRule, OptLevel, Response};

use super::*;

/// add rax, [rdi]; add rdi, 8; cmp rdi, rbx; jne back; ret
const LOOP: [u8; 13] = [0x48, 0x03, 0x07, 0x48, 0x83, 0xc7, 0x08, 0x48, 0x39, 0xdf, 0x75, 0xf4, 0xc3];

fn request(id: u64, bytes: &[u8], opt: OptLevel) -> CompileRequest {
    CompileRequest {
        id,
        entry: 0x1000,
        target: xlate_llvm::host_target(),
        options: CodeOptions { opt, precise: false, flags: FlagRule::Exact, tso: false },
        profile: vec![BlockProfile { pc: 0x1000, count: 1000 }, BlockProfile { pc: 0x100c, count: 3 }],
        indirect: Vec::new(),
        code: vec![CodeBytes { address: 0x1000, bytes: bytes.to_vec() }],
    }
}

fn read_response(stream: &mut UnixStream) -> Response {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    postcard::from_bytes(&body).unwrap()
}

fn compiled(response: Response) -> (u64, Blob) {
    match response {
        Response::Compiled { id, blob } => (id, blob),
        Response::Failed { reason, .. } => panic!("{reason}"),
    }
}

fn connect(path: &Path) -> UnixStream {
    for _ in 0..200 {
        if let Ok(stream) = UnixStream::connect(path) {
            return stream;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no service at {}", path.display());
}

#[test]
fn compiles_for_its_clients_and_ends_with_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("service");
    let args = Args { socket: socket.clone(), jobs: Some(2), idle: 1 };
    let service = std::thread::spawn(move || run(&args).map(|_| ()).map_err(|e| e.error.to_string()));
    let mut stream = connect(&socket);

    let mut arm = request(7, &LOOP, OptLevel::O2);
    arm.target = xlate_abi::protocol::Target {
        arch: xlate_abi::protocol::Arch::Aarch64,
        cpu: String::new(),
        features: String::new(),
    };
    for r in [request(1, &LOOP, OptLevel::O1), request(2, &LOOP, OptLevel::O2), arm] {
        send(&mut stream, &Request::Compile(r)).unwrap();
    }
    let mut answers: Vec<_> = (0..3).map(|_| compiled(read_response(&mut stream))).collect();
    answers.sort_by_key(|(id, _)| *id);
    assert_eq!(answers.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 7]);
    for (_, blob) in &answers {
        assert_eq!(blob.entry_pc, 0x1000);
        assert_eq!(blob.source[0], (0x1000, 12));
    }
    // The loop is all of it that is hot; `ret` ran 3 times of 1000.
    assert_eq!(answers[1].1.guest_instructions, 4);

    send(&mut stream, &Request::Compile(request(9, &[], OptLevel::O2))).unwrap();
    assert!(matches!(read_response(&mut stream), Response::Failed { id: 9, .. }));

    assert!(listen(&socket).is_err(), "a living service keeps its socket");
    drop(stream);
    service.join().unwrap().unwrap();
    assert!(!socket.exists());
}
