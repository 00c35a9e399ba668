//! The wrapping key, which seals private keys for the store, and the file that holds it.
//!
//! The file lies outside the store and its backups. It is made once, by one process, whole or not at all; a store with
//! sealed keys and no matching file is refused, never given a new key.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mayfly_sdk::{PrivateKey, Refusal, TrustDomain};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::kind::Kind;
use super::slot::Facts;
use super::{AuthorityError, AuthorityId};
use crate::store::{SlotKey, SlotKind};

/// The first byte of what is sealed: version 1 is a nonce of 12 bytes and AES-256-GCM.
const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
/// The name of this way of keeping a key.
const SEALED: &str = "sealed";

/// The id of a wrapping key: 16 hexadecimal digits of a hash of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WrappingKeyId(String);

impl WrappingKeyId {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WrappingKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A wrapping key.
pub struct WrappingKey {
    id: WrappingKeyId,
    path: PathBuf,
    key: LessSafeKey,
}

/// Which slot a sealed key belongs to. It opens as the key of no other.
pub(super) struct SlotName<'a> {
    pub(super) kind: SlotKind,
    pub(super) id: &'a AuthorityId,
    pub(super) generation: u64,
}

impl<'a> SlotName<'a> {
    pub(super) fn of<K: Kind>(facts: &'a Facts) -> Self {
        Self { kind: K::NAME, id: &facts.id, generation: facts.generation }
    }
}

/// Seals and opens the keys of one trust domain.
pub(super) struct Sealer {
    trust_domain: TrustDomain,
    key: WrappingKey,
}

impl WrappingKey {
    /// Reads the wrapping key in `path`, which holds 32 bytes, raw or as 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`AuthorityError::WrappingKeyFile`] if it cannot be read, is readable by others, or holds something else.
    pub fn read(path: &Path) -> Result<Self, AuthorityError> {
        let bad = |what: String| AuthorityError::WrappingKeyFile { path: path.to_owned(), what };
        let io = |error: io::Error| bad(error.to_string());
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.mode();
        if mode & 0o037 != 0 {
            return Err(bad(format!("its mode is {:04o}, and others may use it: chmod 0400 it", mode & 0o7777)));
        }
        let mut text = Zeroizing::new(Vec::with_capacity(128));
        file.take(100).read_to_end(&mut text).map_err(io)?;
        let key = parse(&text).ok_or_else(|| bad("it does not hold 32 bytes, raw or in hexadecimal".to_owned()))?;
        Self::new(path, &key)
    }

    /// Reads the wrapping key in `path`, and makes one first if there is none. Two processes that do this at once end
    /// with the same key.
    ///
    /// # Errors
    /// As [`WrappingKey::read`], and if the file cannot be written.
    pub fn read_or_make(path: &Path) -> Result<Self, AuthorityError> {
        if !path.exists() {
            make(path).map_err(|error| AuthorityError::WrappingKeyFile {
                path: path.to_owned(),
                what: format!("it cannot be made: {error}"),
            })?;
        }
        Self::read(path)
    }

    /// The wrapping key for a store. One that holds keys sealed under `wanted` is never given another key; a rotation that
    /// was interrupted after the store had changed is finished.
    ///
    /// # Errors
    /// [`AuthorityError::WrappingKeyMissing`], [`AuthorityError::WrappingKeyWrong`], or as [`WrappingKey::read`].
    pub fn for_store(path: &Path, wanted: Option<&str>) -> Result<Self, AuthorityError> {
        let Some(wanted) = wanted else { return Self::read_or_make(path) };
        let next = next_path(path);
        let found = if path.exists() { Some(Self::read(path)?) } else { None };
        match found {
            Some(key) if key.id.0 == wanted => Ok(key),
            found => match Self::read(&next) {
                Ok(key) if key.id.0 == wanted => key.take_over(path),
                _ => Err(match found {
                    Some(found) => AuthorityError::WrappingKeyWrong {
                        path: path.to_owned(),
                        wanted: wanted.to_owned(),
                        found: found.id.0,
                    },
                    None => AuthorityError::WrappingKeyMissing { path: path.to_owned(), wanted: wanted.to_owned() },
                }),
            },
        }
    }

    /// The key that follows this one, in a file beside it until it [takes over](Self::take_over).
    ///
    /// # Errors
    /// As [`WrappingKey::read_or_make`].
    pub(super) fn next(&self) -> Result<Self, AuthorityError> {
        Self::read_or_make(&next_path(&self.path))
    }

    /// Puts this key's file in the place of the one before it, which is gone then.
    ///
    /// # Errors
    /// [`AuthorityError::WrappingKeyFile`].
    pub(super) fn take_over(self, path: &Path) -> Result<Self, AuthorityError> {
        let renamed = std::fs::rename(&self.path, path).and_then(|()| sync_directory(path));
        match renamed {
            Ok(()) => Ok(Self { path: path.to_owned(), ..self }),
            Err(error) => {
                Err(AuthorityError::WrappingKeyFile { path: self.path, what: format!("it cannot be renamed: {error}") })
            }
        }
    }

    /// Its id, which is stored with what it sealed.
    #[must_use]
    pub fn id(&self) -> &WrappingKeyId {
        &self.id
    }

    /// The file it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn new(path: &Path, key: &[u8; KEY_BYTES]) -> Result<Self, AuthorityError> {
        let mut context = Context::new(&SHA256);
        context.update(b"mayfly wrapping key id\0");
        context.update(key);
        let id = hex::encode(context.finish()).chars().take(16).collect();
        let unbound = UnboundKey::new(&AES_256_GCM, key).ok().ok_or_else(Refusal::no_randomness)?;
        Ok(Self { id: WrappingKeyId(id), path: path.to_owned(), key: LessSafeKey::new(unbound) })
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappingKey({})", self.id)
    }
}

impl Sealer {
    pub(super) fn new(trust_domain: TrustDomain, key: WrappingKey) -> Self {
        Self { trust_domain, key }
    }

    /// Whose keys.
    pub(super) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Its wrapping key.
    pub(super) fn key(&self) -> &WrappingKey {
        &self.key
    }

    /// The same, its key's file in the place of the one before.
    pub(super) fn in_place_of(self, path: &Path) -> Result<Self, AuthorityError> {
        Ok(Self { trust_domain: self.trust_domain, key: self.key.take_over(path)? })
    }

    /// The same with another key.
    pub(super) fn with_key(&self, key: WrappingKey) -> Self {
        Self { trust_domain: self.trust_domain.clone(), key }
    }

    pub(super) fn seal(&self, key: &PrivateKey, name: &SlotName<'_>) -> Result<SlotKey, AuthorityError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok().ok_or_else(Refusal::no_randomness)?;
        let mut sealed = Zeroizing::new(key.expose_pkcs8().to_vec());
        let tag = self.key.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(self.bound_to(name)),
            &mut sealed,
        );
        let tag = tag.ok().ok_or(mayfly_sdk::key::KeyError::Failed)?;
        let bytes = [&[VERSION], &nonce[..], &sealed[..], tag.as_ref()].concat();
        Ok(SlotKey { provider: SEALED.to_owned(), bytes, wrapping_key_id: self.key.id.to_string() })
    }

    pub(super) fn open(&self, stored: &SlotKey, name: &SlotName<'_>) -> Result<PrivateKey, AuthorityError> {
        let broken = || AuthorityError::SealBroken { id: name.id.clone() };
        if stored.provider != SEALED {
            return Err(broken());
        }
        if stored.wrapping_key_id != self.key.id.as_str() {
            return Err(AuthorityError::WrappingKeyWrong {
                path: self.key.path.clone(),
                wanted: stored.wrapping_key_id.clone(),
                found: self.key.id.to_string(),
            });
        }
        let sealed = stored.bytes.strip_prefix(&[VERSION]).ok_or_else(broken)?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(broken)?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.key.open_in_place(nonce, Aad::from(self.bound_to(name)), &mut sealed);
        PrivateKey::from_pkcs8(opened.ok().ok_or_else(broken)?).ok().ok_or_else(broken)
    }

    /// What a sealed key is bound to, each part with its length so that no two slots have the same.
    fn bound_to(&self, name: &SlotName<'_>) -> Vec<u8> {
        let mut bound = b"mayfly slot key\0".to_vec();
        for part in [self.trust_domain.as_str(), name.kind.as_str(), name.id.as_str()] {
            bound.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            bound.extend_from_slice(part.as_bytes());
        }
        bound.extend_from_slice(&name.generation.to_be_bytes());
        bound
    }
}

fn parse(text: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if text.len() == KEY_BYTES {
        key.copy_from_slice(text);
    } else {
        hex::decode_to_slice(text.trim_ascii(), key.as_mut_slice()).ok()?;
    }
    Some(key)
}

/// Makes a key in a file of its own, syncs it, and links it to its name, which fails if another process was first.
fn make(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let mut suffix = [0; 8];
    let random = SystemRandom::new();
    if random.fill(bytes.as_mut_slice()).is_err() || random.fill(&mut suffix).is_err() {
        return Err(io::Error::other("the kernel gave no random bytes"));
    }
    let draft = directory.join(format!(".wrapping.key.{}", hex::encode(suffix)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&draft)?;
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(hex::encode(bytes.as_slice()))));
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.and_then(|()| sync_directory(path)),
    }
}

fn next_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

fn sync_directory(of: &Path) -> io::Result<()> {
    File::open(of.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests;
