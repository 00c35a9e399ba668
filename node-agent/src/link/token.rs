use std::fmt;
use std::path::Path;
use std::str::FromStr;

use mayfly_sdk::tls::SpkiPin;
use mayfly_sdk::{Reason, Refusal};
use zeroize::Zeroizing;

/// A join token as `mayfly join-token create` prints it: a secret, and the pin of the issuer's root.
#[derive(Clone)]
pub(crate) struct JoinToken {
    secret: Zeroizing<String>,
    pin: SpkiPin,
}

/// The longest file that is taken for a join token, in bytes.
const MAX_BYTES: u64 = 4096;

impl JoinToken {
    /// Reads the file that the operator names.
    ///
    /// # Errors
    /// [`Reason::JoinTokenMissing`] if there is nothing in it, [`Reason::InvalidArgument`] if it is something else.
    pub(crate) async fn read(file: Option<&Path>) -> Result<Self, Refusal> {
        let missing = |what: String| Refusal::new(Reason::JoinTokenMissing, what);
        let Some(file) = file else {
            return Err(missing("this node is not enrolled, and join_token_file is not set".to_owned()));
        };
        let shown = file.display();
        match tokio::fs::metadata(file).await {
            Ok(metadata) if metadata.len() <= MAX_BYTES => {}
            Ok(_) => {
                return Err(Refusal::new(Reason::InvalidArgument, format!("{shown} is too long for a join token")));
            }
            Err(error) => return Err(missing(format!("the join token cannot be read from {shown}: {error}"))),
        }
        let text = tokio::fs::read_to_string(file).await.map(Zeroizing::new);
        let text = text.map_err(|error| missing(format!("the join token cannot be read from {shown}: {error}")))?;
        if text.trim().is_empty() {
            return Err(missing(format!("{shown} is empty")));
        }
        text.trim()
            .parse()
            .map_err(|refusal: Refusal| Refusal::new(refusal.reason, format!("{shown}: {}", refusal.what)))
    }

    /// What the issuer is shown.
    pub(crate) fn expose_secret(&self) -> &str {
        &self.secret
    }

    /// The root that the issuer's chain must end with.
    pub(crate) fn pin(&self) -> SpkiPin {
        self.pin
    }

    /// SHA-256 of the token (hex): tells whether a file still holds the token that was used, without keeping it.
    pub(crate) fn fingerprint(&self) -> String {
        let text = Zeroizing::new(format!("{}.{}", *self.secret, self.pin));
        hex::encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
    }
}

impl FromStr for JoinToken {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let malformed = || {
            Refusal::new(
                Reason::InvalidArgument,
                "a join token is written as the token, a dot, and 64 hexadecimal digits",
            )
        };
        let (secret, pin) = text.rsplit_once('.').ok_or_else(malformed)?;
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed());
        }
        Ok(Self {
            secret: Zeroizing::new(secret.to_owned()),
            pin: pin.parse().map_err(|_no_pin: Refusal| malformed())?,
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_secret_and_the_pin_of_the_root() {
        let pin = SpkiPin::of_spki(b"root");
        let token: JoinToken = format!("s3cret.{pin}").parse().unwrap();
        assert_eq!((token.expose_secret(), token.pin()), ("s3cret", pin));
        assert!(!format!("{token:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in
            ["", ".", "s3cret", "s3cret.00", &format!(".{}", "0".repeat(64)), &format!("a b.{}", "0".repeat(64))]
        {
            assert_eq!(text.parse::<JoinToken>().unwrap_err().reason, Reason::InvalidArgument, "{text}");
        }
    }

    #[tokio::test]
    async fn a_missing_file_says_what_to_do() {
        let refusal = JoinToken::read(Some(Path::new("/nonexistent/token"))).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::JoinTokenMissing);
        assert!(refusal.what.contains("/nonexistent/token"));
    }
}
