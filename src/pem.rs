//! PEM (RFC 7468) of what is written out.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Characters a line (RFC 7468 2).
const LINE: usize = 64;

/// Writes one block.
pub(crate) fn write(w: &mut dyn Write, label: &str, der: &[u8]) -> io::Result<()> {
    write_base64(w, label, &STANDARD.encode(der))
}

/// Writes one block whose content is base64 already.
pub(crate) fn write_base64(w: &mut dyn Write, label: &str, content: &str) -> io::Result<()> {
    writeln!(w, "-----BEGIN {label}-----")?;
    for line in content.as_bytes().chunks(LINE) {
        w.write_all(line)?;
        writeln!(w)?;
    }
    writeln!(w, "-----END {label}-----")
}

/// Several certificates as one text.
pub(crate) fn certificates<D: AsRef<[u8]>>(ders: &[D]) -> String {
    let mut text = Vec::new();
    for der in ders {
        // Writing to memory does not fail.
        write(&mut text, "CERTIFICATE", der.as_ref()).ok();
    }
    String::from_utf8(text).unwrap_or_default()
}

/// The DER of each certificate in a PEM text; other blocks are passed over. None where a block is broken.
pub(crate) fn read_certificates(text: &str) -> Option<Vec<Vec<u8>>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut rest = text;
    let mut found = Vec::new();
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        let (content, after) = begun.split_once(END)?;
        let content: String = content.split_whitespace().collect();
        found.push(STANDARD.decode(content).ok()?);
        rest = after;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let ders = [vec![1_u8; 100], vec![2; 48]];
        let text = certificates(&ders);
        assert!(text.lines().all(|line| line.len() <= LINE));
        assert_eq!(read_certificates(&format!("words\n{text}")).unwrap(), ders);
        assert_eq!(read_certificates("none").unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(read_certificates("-----BEGIN CERTIFICATE-----\n%%"), None);
        assert_eq!(read_certificates("-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----"), None);
    }
}
