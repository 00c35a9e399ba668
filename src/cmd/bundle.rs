//! `mayfly bundle`: the trust bundle of this trust domain, and those of others.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Subcommand;
use mayfly_proto::admin;
use mayfly_sdk::bundle::Bundle as SpiffeBundle;
use mayfly_sdk::id::IdError;
use serde::Serialize;
use serde_json::Value;

use super::entry::read_document;
use crate::admin::AdminArgs;
use crate::failure::Failure;
use crate::output::{self, Items, Out, View};
use crate::runtime;

#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Print a bundle as a SPIFFE bundle document
    Show {
        /// Of this trust domain [default: the issuer's own]
        trust_domain: Option<String>,
        /// What to print
        #[arg(long, default_value = "document")]
        form: Form,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// List the trust domains whose bundle is known
    List {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Set the bundle of another trust domain
    Set {
        trust_domain: String,
        /// SPIFFE bundle document; - for standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Forget the bundle of another trust domain
    Delete {
        trust_domain: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Forms of a bundle, as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// The SPIFFE bundle document (a JWK Set)
    Document,
    /// The X.509 authorities as PEM
    Pem,
}

/// A bundle as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    trust_domain: String,
    sequence: u64,
    bundle: Value,
    #[serde(skip)]
    form: Form,
    #[serde(skip)]
    pem: String,
}

/// A bundle after a change.
#[derive(Debug, Serialize)]
struct Changed {
    trust_domain: String,
    /// set, deleted.
    state: &'static str,
    revision: Option<String>,
}

impl Bundle {
    pub(crate) fn run(self, out: Out) -> Result<(), Failure> {
        runtime::client(async {
            match self {
                Self::Show { trust_domain, form, admin } => {
                    show(trust_domain.unwrap_or_default(), form, &admin, out).await
                }
                Self::List { admin } => list(&admin, out).await,
                Self::Set { trust_domain, file, admin } => set(trust_domain, &file, &admin, out).await,
                Self::Delete { trust_domain, admin } => delete(trust_domain, &admin, out).await,
            }
        })
    }
}

async fn show(trust_domain: String, form: Form, admin: &AdminArgs, out: Out) -> Result<(), Failure> {
    let what = "the bundle is not shown";
    let answer = admin.connect().await?.get_bundle(admin::GetBundleRequest { trust_domain }).await;
    let answer = answer.map_err(|status| Failure::status(what, &status))?.into_inner();
    let bundle = answer.bundle.ok_or_else(|| Failure::bug(what, "the issuer answered without a bundle"))?;
    Ok(out.show(&Shown::of(bundle, form)?)?)
}

async fn list(admin: &AdminArgs, out: Out) -> Result<(), Failure> {
    let answer = admin.connect().await?.list_bundles(admin::ListBundlesRequest {}).await;
    let answer = answer.map_err(|status| Failure::status("the bundles were not listed", &status))?.into_inner();
    let items: Result<_, _> = answer.items.into_iter().map(|bundle| Shown::of(bundle, Form::Document)).collect();
    Ok(out.show(&Items { items: items? })?)
}

async fn set(trust_domain: String, file: &std::path::Path, admin: &AdminArgs, out: Out) -> Result<(), Failure> {
    let document = read_document(file)?;
    let request = admin::SetBundleRequest { trust_domain: trust_domain.clone(), document: document.into() };
    let answer = admin.connect().await?.set_bundle(request).await;
    let answer =
        answer.map_err(|status| Failure::status(format!("the bundle of {trust_domain} was not set"), &status))?;
    Ok(out.show(&Changed {
        trust_domain,
        state: "set",
        revision: output::revision(answer.into_inner().revision.as_ref()),
    })?)
}

async fn delete(trust_domain: String, admin: &AdminArgs, out: Out) -> Result<(), Failure> {
    let request = admin::DeleteBundleRequest { trust_domain: trust_domain.clone() };
    let answer = admin.connect().await?.delete_bundle(request).await;
    let answer =
        answer.map_err(|status| Failure::status(format!("the bundle of {trust_domain} was not deleted"), &status))?;
    Ok(out.show(&Changed {
        trust_domain,
        state: "deleted",
        revision: output::revision(answer.into_inner().revision.as_ref()),
    })?)
}

impl Shown {
    fn of(bundle: admin::Bundle, form: Form) -> Result<Self, Failure> {
        let what = format!("the bundle of {} cannot be read", bundle.trust_domain);
        let document = serde_json::from_slice(&bundle.document).map_err(|error| Failure::bug(&what, error))?;
        let trust_domain = bundle.trust_domain.parse().map_err(|error: IdError| Failure::bug(&what, error))?;
        let parsed = SpiffeBundle::from_spiffe_json(trust_domain, &bundle.document)
            .map_err(|error| Failure::bug(&what, error))?;
        Ok(Self {
            trust_domain: bundle.trust_domain,
            sequence: bundle.sequence,
            bundle: document,
            form,
            pem: parsed.x509.to_pem(),
        })
    }

    fn keys(&self, usage: &str) -> impl Iterator<Item = &Value> {
        let keys = self.bundle.get("keys").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        keys.iter().filter(move |key| key.get("use").and_then(Value::as_str) == Some(usage))
    }
}

impl View for Shown {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        if self.form == Form::Document {
            serde_json::to_writer_pretty(&mut *w, &self.bundle)?;
            return writeln!(w);
        }
        w.write_all(self.pem.as_bytes())
    }
}

impl View for Items<Shown> {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        let row = |it: &Shown| {
            let count = |usage| it.keys(usage).count().to_string();
            [it.trust_domain.clone(), it.sequence.to_string(), count("x509-svid"), count("jwt-svid"), count("wit-svid")]
        };
        output::table(
            w,
            ["TRUST DOMAIN", "SEQUENCE", "X509", "JWT", "WIT"],
            &self.items.iter().map(row).collect::<Vec<_>>(),
        )
    }
}

impl View for Changed {
    fn text(&self, w: &mut dyn Write) -> io::Result<()> {
        writeln!(
            w,
            "bundle of {} {}, revision {}",
            self.trust_domain,
            self.state,
            output::or_dash(self.revision.as_ref())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(form: Form) -> Shown {
        let bundle: Value =
            serde_json::from_str(r#"{"keys":[{"use":"x509-svid"},{"use":"jwt-svid"}],"spiffe_sequence":3}"#).unwrap();
        Shown {
            trust_domain: "example.org".into(),
            sequence: 3,
            bundle,
            form,
            pem: "-----BEGIN CERTIFICATE-----\n".into(),
        }
    }

    const JSON: &str = r#"{"trust_domain":"example.org","sequence":3,"bundle":{"keys":[{"use":"x509-svid"},{"use":"jwt-svid"}],"spiffe_sequence":3}}"#;

    #[test]
    fn a_bundle_is_shown_as_a_document_and_as_pem() {
        let document = output::golden(&example(Form::Document));
        assert!(
            document.starts_with("{\n  \"keys\": [\n") && document.ends_with(&format!("}}\n{JSON}\n")),
            "{document}"
        );
        assert_eq!(output::golden(&example(Form::Pem)), format!("-----BEGIN CERTIFICATE-----\n{JSON}\n"));
    }

    #[test]
    fn a_bundle_of_the_issuer_is_read() {
        let bundle = |document: &str| {
            let document = document.as_bytes().to_vec().into();
            Shown::of(admin::Bundle { trust_domain: "example.org".into(), document, sequence: 3 }, Form::Document)
        };
        assert_eq!(bundle(r#"{"keys":[],"spiffe_sequence":3}"#).unwrap().pem, "");
        assert!(bundle("{").is_err());
    }

    #[test]
    fn bundles_are_listed_in_both_forms() {
        assert_eq!(
            output::golden(&Items { items: vec![example(Form::Document)] }),
            format!(
                "TRUST DOMAIN  SEQUENCE  X509  JWT  WIT\nexample.org   3         1     1    0\n{{\"items\":[{JSON}]}}\n"
            )
        );
    }

    #[test]
    fn a_change_is_shown_in_both_forms() {
        let changed = Changed { trust_domain: "other.example".into(), state: "set", revision: Some("1.5".into()) };
        assert_eq!(
            output::golden(&changed),
            "bundle of other.example set, revision 1.5\n{\"trust_domain\":\"other.example\",\"state\":\"set\",\"revision\":\"1.5\"}\n"
        );
    }
}
