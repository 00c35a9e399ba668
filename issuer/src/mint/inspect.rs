//! Tokens of tasks, as whoever was shown one asks the issuer about them.

use mayfly_sdk::task::{TaskClaims, TaskKeys, TaskTokenError, Validator};

use super::Minter;

impl Minter {
    /// The keys that task tokens of this trust domain are verified by.
    #[must_use]
    pub fn task_keys(&self) -> TaskKeys {
        TaskKeys::new(&*self.task_iss, self.authorities.snapshot().task_keys().iter().cloned())
    }

    /// What a token for this audience says, if it is good at this moment: asked of the issuer itself, a token is good until it ends and
    /// no longer. With the certificate of whoever presented it, if that was seen (DER).
    ///
    /// # Errors
    /// The first check that failed.
    pub fn inspect(
        &self,
        token: &str,
        audience: &str,
        certificate: Option<&[u8]>,
    ) -> Result<TaskClaims, TaskTokenError> {
        let (keys, now) = (self.task_keys(), self.directory.clock().now());
        let validator = Validator { audience, keys: &keys, sensitive: true };
        validator.inspect(token, certificate, |claims| self.tasks.standing(claims.task.id, now), now)
    }
}
