//! Makes archives byte by byte, so that they can also be what no sound tool makes.

use std::io::Write;

use flate2::{Compression, Crc};
use tar::Header;

/// One entry to be. Sizes, checksums and flags are right unless a test says otherwise.
#[derive(Clone)]
pub struct Piece {
    pub name: Vec<u8>,
    pub flag: u8,
    pub mode: u32,
    pub target: Vec<u8>,
    pub data: Vec<u8>,
}

pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Piece {
    Piece {
        name: name.as_ref().to_vec(),
        flag: b'0',
        mode: 0o644,
        target: vec![],
        data: data.as_ref().to_vec(),
    }
}

pub fn dir(name: impl AsRef<[u8]>) -> Piece {
    Piece { flag: b'5', mode: 0o755, ..file(name, "") }
}

pub fn link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Piece {
    Piece { flag: b'2', mode: 0o777, target: target.as_ref().to_vec(), ..file(name, "") }
}

pub fn hard(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Piece {
    Piece { flag: b'1', target: target.as_ref().to_vec(), ..file(name, "") }
}

/// A tar entry of any type.
pub fn typed(flag: u8, name: &str, data: impl AsRef<[u8]>) -> Piece {
    Piece { flag, ..file(name, data) }
}

/// A pax header with these records.
pub fn pax(flag: u8, records: &[(&str, &[u8])]) -> Piece {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..).find(|n| n.to_string().len() + rest == *n).unwrap();
        data.extend_from_slice(format!("{length} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    typed(flag, "pax", data)
}

impl Piece {
    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    /// The header and the data of a tar entry; names over 100 bytes get a header of their own, as in GNU tar.
    pub fn tar(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (long, flag) in [(&self.name, b'L'), (&self.target, b'K')] {
            if long.len() > 100 {
                bytes.extend(typed(flag, "././@LongLink", [long.as_slice(), b"\0"].concat()).tar());
            }
        }
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        let cut = |text: &[u8]| text[..text.len().min(100)].to_vec();
        old.name[..cut(&self.name).len()].copy_from_slice(&cut(&self.name));
        old.linkname[..cut(&self.target).len()].copy_from_slice(&cut(&self.target));
        old.linkflag = [self.flag];
        header.set_mode(self.mode);
        header.set_mtime(1_600_000_000);
        header.set_size(self.data.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&self.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// The entries of a tar without its end.
pub fn open_tar(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(Piece::tar).collect()
}

pub fn tar(pieces: &[Piece]) -> Vec<u8> {
    [open_tar(pieces), vec![0; 1024]].concat()
}

pub fn gz(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub fn zst(data: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(data: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A zip in the making. What its headers say is right unless `twist` changes it.
#[derive(Default)]
pub struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

/// The fields that both headers of an entry share.
pub struct Fields {
    pub flags: u16,
    pub method: u16,
    pub crc: u32,
    pub packed: u32,
    pub size: u32,
    pub at: u32,
    pub mode: u32,
    pub local_name: Vec<u8>,
    pub local_extra: Vec<u8>,
}

impl Zip {
    pub fn add(&mut self, piece: &Piece, twist: impl FnOnce(&mut Fields)) -> &mut Self {
        let data = if piece.flag == b'2' { &piece.target } else { &piece.data };
        let mut crc = Crc::new();
        crc.update(data);
        let deflate = data.len() > 20;
        let packed = if deflate { deflated(data) } else { data.clone() };
        let kind = match piece.flag {
            b'5' => 0o40000,
            b'2' => 0o120000,
            _ => 0o100000,
        };
        let mut name = piece.name.clone();
        if piece.flag == b'5' && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let mut fields = Fields {
            flags: 0x800,
            method: if deflate { 8 } else { 0 },
            crc: crc.sum(),
            packed: packed.len() as u32,
            size: data.len() as u32,
            at: self.bytes.len() as u32,
            mode: kind | piece.mode,
            local_name: name.clone(),
            local_extra: vec![],
        };
        twist(&mut fields);
        self.write(&fields, &name, &packed);
        self
    }

    fn write(&mut self, fields: &Fields, name: &[u8], packed: &[u8]) {
        let shared = |name: &[u8], extra: &[u8]| {
            let mut bytes = Vec::new();
            for short in [20, fields.flags, fields.method, 0, 0x21] {
                bytes.extend_from_slice(&short.to_le_bytes());
            }
            for long in [fields.crc, fields.packed, fields.size] {
                bytes.extend_from_slice(&long.to_le_bytes());
            }
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&(extra.len() as u16).to_le_bytes());
            bytes
        };
        let local = [
            b"PK\x03\x04",
            shared(&fields.local_name, &fields.local_extra).as_slice(),
            &fields.local_name,
            &fields.local_extra,
            packed,
        ]
        .concat();
        self.bytes.extend(local);
        let central = [b"PK\x01\x02", [20, 3].as_slice(), &shared(name, &[]), &[0; 6]].concat();
        self.directory.extend(central);
        self.directory.extend_from_slice(&(fields.mode << 16).to_le_bytes());
        self.directory.extend_from_slice(&fields.at.to_le_bytes());
        self.directory.extend_from_slice(name);
        self.count += 1;
    }

    pub fn finish(&self) -> Vec<u8> {
        let mut bytes = [self.bytes.as_slice(), &self.directory, b"PK\x05\x06\0\0\0\0"].concat();
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&(self.directory.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes
    }
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub fn zip(pieces: &[Piece]) -> Vec<u8> {
    let mut zip = Zip::default();
    for piece in pieces {
        zip.add(piece, |_| {});
    }
    zip.finish()
}

/// The same entries in every format. Hard links, which zip has not, become what they link to.
pub fn every_format(pieces: &[Piece]) -> Vec<(&'static str, Vec<u8>)> {
    let tar = tar(pieces);
    let unlinked: Vec<Piece> = pieces
        .iter()
        .map(|piece| match piece.flag {
            b'1' => {
                let first = pieces.iter().find(|p| p.name == piece.target).unwrap();
                Piece { name: piece.name.clone(), ..first.clone() }
            }
            _ => piece.clone(),
        })
        .collect();
    let packed =
        [("x.tar.gz", gz(&tar)), ("x.tgz", gz(&tar)), ("x.tar.zst", zst(&tar)), ("x.tar.xz", xz(&tar))];
    packed.into_iter().chain([("x.zip", zip(&unlinked)), ("x.tar", tar)]).collect()
}
