//! Signatures of certificates: RSA PKCS#1 v1.5 of 2048 to 4096 bits (RFC 8017, 8.2), and ECDSA with
//! P-256 and P-384 (RFC 5480, RFC 5758), each with SHA-256, SHA-384 or SHA-512.

use der::{
    Decode, Reader, SliceReader,
    asn1::{ObjectIdentifier, UintRef},
};
use rsa::{BoxedUint, Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::certificate::Certificate;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");

/// The lengths of RSA moduli that are trusted, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// That the key of `issuer` made the signature of `certificate`.
///
/// # Errors
/// Why not: a wrong signature, or a kind of key or algorithm that is not known here.
pub fn check(certificate: &Certificate, issuer: &Certificate) -> Result<(), String> {
    let (signed, algorithm, signature) = certificate.signature();
    let key = issuer.key_info();
    let is_right = match key.algorithm.oid {
        RSA => rsa(key, algorithm, signed, signature)?,
        EC => ecdsa(key, algorithm, signed, signature)?,
        other => return Err(format!("its issuer's key is of the unknown kind {other}")),
    };
    if is_right { Ok(()) } else { Err("its signature is wrong".into()) }
}

fn unknown(algorithm: &AlgorithmIdentifierOwned) -> String {
    format!("its signature is of the kind {}, which is unknown here", algorithm.oid)
}

fn rsa(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    signed: &[u8],
    signature: &[u8],
) -> Result<bool, String> {
    let (scheme, digest) = match algorithm.oid {
        RSA_SHA256 => (Pkcs1v15Sign::new::<Sha256>(), Sha256::digest(signed).to_vec()),
        RSA_SHA384 => (Pkcs1v15Sign::new::<Sha384>(), Sha384::digest(signed).to_vec()),
        RSA_SHA512 => (Pkcs1v15Sign::new::<Sha512>(), Sha512::digest(signed).to_vec()),
        _ => return Err(unknown(algorithm)),
    };
    // NULL, as the standard has it, or nothing.
    if algorithm.parameters.as_ref().is_some_and(|parameters| !parameters.is_null()) {
        return Err(unknown(algorithm));
    }
    let malformed = "its issuer's RSA key is not one of 2048 to 4096 bits";
    let (modulus, exponent) = rsa_key(key.subject_public_key.raw_bytes()).map_err(|_| malformed)?;
    let [modulus, exponent] = [modulus, exponent].map(BoxedUint::from_be_slice_vartime);
    let key =
        RsaPublicKey::new_with_size_limits(modulus, exponent, RSA_BITS).map_err(|_| malformed)?;
    Ok(key.verify(scheme, &digest, signature).is_ok())
}

/// The modulus and the exponent of an `RSAPublicKey` (RFC 8017, A.1.1), big-endian.
fn rsa_key(der: &[u8]) -> der::Result<(&[u8], &[u8])> {
    let mut reader = SliceReader::new(der)?;
    let numbers = reader.sequence(|reader: &mut SliceReader<'_>| {
        let [modulus, exponent] = [UintRef::decode(reader)?, UintRef::decode(reader)?];
        Ok::<_, der::Error>((modulus.as_bytes(), exponent.as_bytes()))
    })?;
    reader.finish()?;
    Ok(numbers)
}

fn ecdsa(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    signed: &[u8],
    signature: &[u8],
) -> Result<bool, String> {
    use p256::ecdsa::signature::hazmat::PrehashVerifier as _;

    let digest = match algorithm.oid {
        ECDSA_SHA256 => Sha256::digest(signed).to_vec(),
        ECDSA_SHA384 => Sha384::digest(signed).to_vec(),
        ECDSA_SHA512 => Sha512::digest(signed).to_vec(),
        _ => return Err(unknown(algorithm)),
    };
    if algorithm.parameters.is_some() {
        return Err(unknown(algorithm));
    }
    let curve = key.algorithm.parameters.as_ref().and_then(|any| any.decode_as().ok());
    let point = key.subject_public_key.raw_bytes();
    let malformed = |_| "its issuer's key is no point of its curve";
    Ok(match curve {
        Some(P256) => {
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(malformed)?;
            p256::ecdsa::DerSignature::from_bytes(signature)
                .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok())
        }
        Some(P384) => {
            let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(malformed)?;
            p384::ecdsa::DerSignature::from_bytes(signature)
                .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok())
        }
        _ => return Err("its issuer's key is on an elliptic curve that is unknown here".into()),
    })
}
