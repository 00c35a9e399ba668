//! One file as its process sees it, and what of that is not yet in the file.

use std::ops::Range;

/// A file whose newest content is in memory only.
#[derive(Debug)]
pub(crate) struct Shadow {
    content: Vec<u8>,
    /// What was written since the last sync; may overlap, and reach beyond the end.
    unsynced: Vec<Range<usize>>,
    /// The shortest that the file was since the last sync, if its length was set.
    shortest: Option<usize>,
}

/// Where a sync writes to.
pub(crate) trait Disk {
    /// Why it could not.
    type Error;
    /// Writes all of `bytes`.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Cuts or extends the file.
    fn set_length(&mut self, length: usize) -> Result<(), Self::Error>;
}

impl Shadow {
    /// The shadow of a file with this content.
    pub(crate) const fn new(content: Vec<u8>) -> Self {
        Self { content, unsynced: Vec::new(), shortest: None }
    }

    /// Bytes that a process sees in the file.
    pub(crate) const fn length(&self) -> usize {
        self.content.len()
    }

    /// As `pread`: how many bytes there were.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) -> usize {
        let there = self.content.get(offset..).unwrap_or_default();
        let count = there.len().min(to.len());
        for (to, from) in to.iter_mut().zip(there) {
            *to = *from;
        }
        count
    }

    /// As `pwrite`.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let range = offset..offset + bytes.len();
        if self.content.len() < range.end {
            self.content.resize(range.end, 0);
        }
        if let Some(place) = self.content.get_mut(range.clone()) {
            place.copy_from_slice(bytes);
        }
        match self.unsynced.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.unsynced.push(range),
        }
    }

    /// As `ftruncate`.
    pub(crate) fn set_length(&mut self, length: usize) {
        self.shortest = Some(self.shortest.unwrap_or(self.content.len()).min(length));
        self.content.resize(length, 0);
    }

    /// Brings the file up to date. After an error everything counts as unsynced still.
    pub(crate) fn sync<D: Disk>(&mut self, disk: &mut D) -> Result<(), D::Error> {
        if let Some(shortest) = self.shortest {
            disk.set_length(shortest)?;
        }
        for range in &self.unsynced {
            let end = range.end.min(self.content.len());
            if let Some(bytes) = self.content.get(range.start..end) {
                disk.write(range.start, bytes)?;
            }
        }
        if self.shortest.is_some() {
            disk.set_length(self.content.len())?;
        }
        self.unsynced.clear();
        self.shortest = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    struct File(Vec<u8>);

    impl Disk for File {
        type Error = Infallible;

        fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
            if self.0.len() < offset + bytes.len() {
                self.0.resize(offset + bytes.len(), 0);
            }
            self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn set_length(&mut self, length: usize) -> Result<(), Infallible> {
            self.0.resize(length, 0);
            Ok(())
        }
    }

    fn seen(shadow: &Shadow) -> Vec<u8> {
        let mut bytes = vec![0; shadow.length() + 1];
        let count = shadow.read(0, &mut bytes);
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn what_was_written_is_seen_at_once_and_is_in_the_file_after_a_sync() {
        let mut file = File(b"abcdef".to_vec());
        let mut shadow = Shadow::new(file.0.clone());
        shadow.write(2, b"XY");
        shadow.write(8, b"Z");
        assert_eq!((seen(&shadow).as_slice(), file.0.as_slice()), (&b"abXYef\0\0Z"[..], &b"abcdef"[..]));
        shadow.sync(&mut file).unwrap();
        assert_eq!(file.0, seen(&shadow));
    }

    #[test]
    fn what_was_cut_off_does_not_come_back_when_the_file_grows_again() {
        let mut file = File(b"abcdef".to_vec());
        let mut shadow = Shadow::new(file.0.clone());
        shadow.write(5, b"F");
        shadow.set_length(2);
        shadow.set_length(4);
        shadow.write(6, b"g");
        shadow.set_length(5);
        assert_eq!(seen(&shadow), b"ab\0\0\0");
        shadow.sync(&mut file).unwrap();
        assert_eq!(file.0, b"ab\0\0\0");
    }
}
