use std::os::unix::fs::PermissionsExt;

use mayfly_sdk::KeyAlgorithm;

use super::*;

fn sealer(directory: &Path, trust_domain: &str) -> Sealer {
    let key = WrappingKey::read_or_make(&directory.join("wrapping.key")).unwrap();
    Sealer::new(trust_domain.parse().unwrap(), key)
}

#[test]
fn the_file_is_made_once_whole_and_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wrapping.key");
    let ids: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| WrappingKey::read_or_make(&path).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().id).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o400);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no drafts are left");
}

#[test]
fn raw_bytes_and_hexadecimal_digits_are_the_same_key() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
        WrappingKey::read(&path)
    };
    let raw = write("raw", &[0xab; 32]).unwrap();
    assert_eq!(raw.id, write("hex", "ab".repeat(32).as_bytes()).unwrap().id);
    assert_eq!(raw.id, write("line", format!("{}\n", "ab".repeat(32)).as_bytes()).unwrap().id);
    for (name, bad) in [("empty", &b""[..]), ("short", &[1; 31]), ("long", &[b'a'; 66]), ("text", &[b'x'; 64])] {
        assert!(matches!(write(name, bad), Err(AuthorityError::WrappingKeyFile { .. })), "{name}");
    }
}

#[test]
fn a_file_that_others_may_read_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wrapping.key");
    WrappingKey::read_or_make(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let error = WrappingKey::read(&path).unwrap_err().to_string();
    assert!(error.contains("0644") && error.contains("chmod 0400"), "{error}");
    // A systemd credential is readable by the group of the service.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o440)).unwrap();
    WrappingKey::read(&path).unwrap();
}

#[test]
fn a_sealed_key_is_bound_to_trust_domain_kind_slot_and_generation() {
    let directory = tempfile::tempdir().unwrap();
    let key = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
    let (id, other) = (AuthorityId::new("a"), AuthorityId::new("b"));
    let name = SlotName { kind: SlotKind::Jwt, id: &id, generation: 1 };
    let own = sealer(directory.path(), "td.test");
    let sealed = own.seal(&key, &name).unwrap();
    assert_eq!(own.open(&sealed, &name).unwrap().public_key(), key.public_key());
    assert!(!sealed.bytes.windows(16).any(|window| key.expose_pkcs8().windows(16).any(|secret| secret == window)));

    for elsewhere in [
        SlotName { kind: SlotKind::X509Root, id: &id, generation: 1 },
        SlotName { kind: SlotKind::Jwt, id: &other, generation: 1 },
        SlotName { kind: SlotKind::Jwt, id: &id, generation: 2 },
    ] {
        assert!(matches!(own.open(&sealed, &elsewhere), Err(AuthorityError::SealBroken { .. })));
    }
    let foreign = sealer(directory.path(), "other.test");
    assert!(matches!(foreign.open(&sealed, &name), Err(AuthorityError::SealBroken { .. })));
    for at in 0..sealed.bytes.len() {
        let mut broken = sealed.clone();
        broken.bytes[at] ^= 1;
        assert!(matches!(own.open(&broken, &name), Err(AuthorityError::SealBroken { .. })), "byte {at}");
    }
    assert_ne!(own.seal(&key, &name).unwrap().bytes, sealed.bytes, "a nonce is never used twice");
}
