//! AES-128-XTS (IEEE 1619) as Nydus uses it: one data unit per object, its tweak the raw initialisation vector, and
//! short objects padded.

use crate::error::{CodecError, Result};
use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

/// Two AES-128 keys: for the data, then for the tweak.
pub const KEY_SIZE: usize = 32;
pub const IV_SIZE: usize = 16;
const BLOCK: usize = 16;

/// Objects of less than a block become these 18 bytes: data ‖ pad, as often as bytes are missing ‖ magic.
const PADDED_SIZE: usize = BLOCK + 2;
const PADDED_MAGIC: [u8; 2] = [0x78, 0x90];

/// The plain bytes of one encrypted object of at least a block; [`unpadded`] is the other half.
pub(crate) fn decrypt(stored: &[u8], key: &[u8; KEY_SIZE], iv: &[u8; IV_SIZE]) -> Result<Vec<u8>> {
    if stored.len() < BLOCK {
        let problem = format!("{} bytes, and an encrypted object has at least {BLOCK}", stored.len());
        return Err(CodecError::format("compressed_size", problem));
    }
    let mut bytes = stored.to_vec();
    decrypt_unit(&mut bytes, key, iv);
    Ok(bytes)
}

/// What was encrypted, without the padding of short objects.
pub(crate) fn unpadded(plain: &[u8]) -> Result<&[u8]> {
    if plain.len() != PADDED_SIZE || plain[BLOCK..] != PADDED_MAGIC {
        return Ok(plain);
    }
    let missing = usize::from(plain[BLOCK - 1]);
    if missing == 0 || missing > BLOCK {
        return Err(CodecError::format("encryption padding", format!("{missing} of {BLOCK} bytes")));
    }
    Ok(&plain[..BLOCK - missing])
}

/// One data unit of at least a block, in place, with ciphertext stealing for what is no multiple of one.
fn decrypt_unit(bytes: &mut [u8], key: &[u8; KEY_SIZE], iv: &[u8; IV_SIZE]) {
    let (data_key, tweak_key) = halves(key);
    let data = Aes128::new(&data_key.into());
    let mut tweak = *iv;
    Aes128::new(&tweak_key.into()).encrypt_block((&mut tweak).into());
    let decrypt = |block: &mut [u8; BLOCK], tweak: u128| {
        *block = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes();
        data.decrypt_block(block.into());
        *block = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes();
    };
    let mut tweak = u128::from_le_bytes(tweak);
    let (blocks, tail) = bytes.as_chunks_mut::<BLOCK>();
    let Some((last, whole)) = blocks.split_last_mut() else { return };
    for block in whole {
        decrypt(block, tweak);
        tweak = doubled(tweak);
    }
    if tail.is_empty() {
        decrypt(last, tweak);
        return;
    }
    // The last whole block was encrypted last: it holds the tail's ciphertext, and lent the tail its first bytes.
    decrypt(last, doubled(tweak));
    tail.swap_with_slice(&mut last[..tail.len()]);
    decrypt(last, tweak);
}

fn halves(key: &[u8; KEY_SIZE]) -> ([u8; BLOCK], [u8; BLOCK]) {
    let (data, tweak) = key.split_at(BLOCK);
    (data.try_into().expect("half a key"), tweak.try_into().expect("half a key"))
}

/// Times x in GF(2^128) modulo x^128 + x^7 + x^2 + x + 1, little-endian.
fn doubled(tweak: u128) -> u128 {
    (tweak << 1) ^ ((tweak >> 127) * 0x87)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn check(key: &str, iv: &str, plain: &str, cipher: &str) {
        let mut unit = bytes(cipher);
        decrypt_unit(&mut unit, &bytes(key).try_into().unwrap(), &bytes(iv).try_into().unwrap());
        assert_eq!(unit, bytes(plain));
    }

    /// IEEE 1619-2007, annex B: vectors 1, 2 and 15 (one byte of stealing).
    #[test]
    fn vectors_of_the_standard() {
        check(
            &"00".repeat(32),
            &"00".repeat(16),
            &"00".repeat(32),
            "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
        );
        check(
            &("11".repeat(16) + &"22".repeat(16)),
            "33333333330000000000000000000000",
            &"44".repeat(32),
            "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
        );
        check(
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0",
            "9a785634120000000000000000000000",
            "000102030405060708090a0b0c0d0e0f10",
            "6c1625db4671522d3d7599601de7ca09ed",
        );
    }

    #[test]
    fn padding_is_taken_away() {
        let padded = |size: usize| [&vec![7; size][..], &vec![(16 - size) as u8; 16 - size], &[0x78, 0x90]].concat();
        for size in 0..16 {
            assert_eq!(unpadded(&padded(size)).unwrap(), vec![7; size]);
        }
        assert_eq!(unpadded(&[1; 18]).unwrap(), [1; 18]);
        assert!(unpadded(&[&[17; 16][..], &[0x78, 0x90]].concat()).is_err());
    }

    #[test]
    fn too_short_objects_are_refused() {
        assert!(matches!(decrypt(&[0; 15], &[1; 32], &[0; 16]), Err(CodecError::Format { .. })));
    }
}
