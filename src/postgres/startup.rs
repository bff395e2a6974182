//! The first messages of a connection: who logs in, to which database, and the proof. Runs on the thread that calls.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::config::{PgConfig, PgPassword};
use super::error::PgError;
use super::wire::{Wire, WireLimit, WireNext};

/// Whether a password may be sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PgClearText {
    /// Nobody is between us and the server: a socket of this machine, or a certificate that was looked at.
    May,
    MayNot,
}

/// Logs in until `deadline`.
pub(super) fn log_in(
    wire: &mut Wire,
    config: &PgConfig,
    password: Option<&PgPassword>,
    clear_text: PgClearText,
    deadline: Instant,
) -> Result<(), PgError> {
    let server = wire.server().clone();
    let parameters = config.startup_parameters();
    let written = frontend::startup_message(
        parameters.iter().map(|(name, value)| (*name, &**value)),
        &mut wire.output,
    );
    written.map_err(|_| {
        PgError::refused(&server, "user, database and options cannot hold a zero byte")
    })?;
    let user = &config.user;
    let mut proof = PgProof { server, user, password, clear_text, scram: None, is_accepted: false };
    wire.run(WireLimit::Until(deadline), |message, _, output| proof.take(message, output))
}

/// One login.
struct PgProof<'a> {
    server: Arc<str>,
    user: &'a str,
    password: Option<&'a PgPassword>,
    clear_text: PgClearText,
    scram: Option<ScramSha256>,
    is_accepted: bool,
}

impl PgProof<'_> {
    fn take(&mut self, message: &Message, output: &mut BytesMut) -> Result<WireNext, PgError> {
        match message {
            Message::AuthenticationOk => {
                // A server that was asked for its own proof and gave none is not the one that knows the password.
                if self.scram.is_some() {
                    return Err(self.nonsense());
                }
                self.is_accepted = true;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(self.user.as_bytes(), self.password()?, body.salt());
                frontend::password_message(hash.as_bytes(), output).map_err(|_| self.nonsense())?;
            }
            Message::AuthenticationSasl(body) => self.begin_scram(body, output)?,
            Message::AuthenticationSaslContinue(body) => {
                let mut scram = self.scram.take().ok_or_else(|| self.nonsense())?;
                scram.update(body.data()).map_err(|error| self.no_proof(&error))?;
                frontend::sasl_response(scram.message(), output).map_err(|_| self.nonsense())?;
                self.scram = Some(scram);
            }
            Message::AuthenticationSaslFinal(body) => {
                let mut scram = self.scram.take().ok_or_else(|| self.nonsense())?;
                scram.finish(body.data()).map_err(|error| self.no_proof(&error))?;
            }
            Message::AuthenticationCleartextPassword if self.clear_text == PgClearText::May => {
                frontend::password_message(self.password()?, output)
                    .map_err(|_| self.nonsense())?;
            }
            Message::AuthenticationCleartextPassword => {
                let what = "it wants the password as it is, which is done with sslmode=verify-full only: say that, or \
                            scram-sha-256 in its pg_hba.conf";
                return Err(PgError::refused(&self.server, what));
            }
            Message::AuthenticationGss
            | Message::AuthenticationKerberosV5
            | Message::AuthenticationScmCredential
            | Message::AuthenticationSspi => {
                let what = "it wants a login by GSS, Kerberos or SSPI, which is not done here: say scram-sha-256 in its \
                            pg_hba.conf";
                return Err(PgError::refused(&self.server, what));
            }
            Message::ErrorResponse(body) => {
                let error = PgError::of_server(&self.server, body.fields());
                return Err(error.without(self.password.map_or("", PgPassword::text)));
            }
            Message::ParameterStatus(_)
            | Message::BackendKeyData(_)
            | Message::NoticeResponse(_) => {}
            Message::ReadyForQuery(_) if self.is_accepted => return Ok(WireNext::Done),
            _ => return Err(self.nonsense()),
        }
        Ok(WireNext::More)
    }

    fn begin_scram(
        &mut self,
        body: &AuthenticationSaslBody,
        output: &mut BytesMut,
    ) -> Result<(), PgError> {
        let mut offered = body.mechanisms();
        let mut scram = false;
        while let Some(mechanism) = offered.next().map_err(|_| self.nonsense())? {
            scram |= mechanism == SCRAM_SHA_256;
        }
        if !scram || self.scram.is_some() {
            return Err(self.nonsense());
        }
        let scram = ScramSha256::new(self.password()?, ChannelBinding::unsupported());
        let written = frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), output);
        written.map_err(|_| self.nonsense())?;
        self.scram = Some(scram);
        Ok(())
    }

    fn password(&self) -> Result<&[u8], PgError> {
        self.password.map(|password| password.text().as_bytes()).ok_or_else(|| {
            let what = "it wants a password, and there is none: set it in the URL, PGPASSWORD or the file that \
                        PGPASSFILE names";
            PgError::refused(&self.server, what)
        })
    }

    fn nonsense(&self) -> PgError {
        PgError::protocol(&self.server, "it sends a message that is not due while logging in")
    }

    fn no_proof(&self, error: &std::io::Error) -> PgError {
        PgError::refused(
            &self.server,
            format!("it does not prove that it knows the password: {error}"),
        )
    }
}
