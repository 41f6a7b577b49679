//! Who logs in: LOGIN7 (MS-TDS 2.2.6.4) and the messages of NTLM inside SSPI (MS-NLMP 2.2.1.3). Passwords and proofs of them are
//! passed over.

use super::types::{Era, Read, text};

/// Names are cut here.
const NAME_BYTES_MAX: usize = 256;

/// What a login says, its password apart.
#[derive(Debug, Default)]
pub(super) struct Login {
    pub era: Option<Era>,
    pub user: Option<String>,
    pub host: Option<String>,
    pub application: Option<String>,
    pub database: Option<String>,
    pub authentication: &'static str,
    /// The client's library sets what ANSI asks for, so `"` quotes names.
    pub ansi: bool,
}

/// LOGIN7, of which the beginning is there.
pub(super) fn login(body: &[u8]) -> Option<Login> {
    let mut read = Read(body);
    let length = read.u32().ok()? as usize;
    let version = *body.get(7)?;
    let body = body.get(..length.min(body.len()))?;
    // The fields, their places and lengths in characters.
    let field = |at: usize| {
        let place = Read(body.get(at..)?).u16().ok()?;
        let units = Read(body.get(at + 2..)?).u16().ok()?;
        let bytes = (2 * usize::from(units)).min(NAME_BYTES_MAX);
        let name = body.get(usize::from(place)..)?.get(..bytes)?;
        Some(text(name)).filter(|name| !name.is_empty())
    };
    let (options2, options3) = (*body.get(25)?, *body.get(27)?);
    let sspi = {
        let place = Read(body.get(78..)?).u16().ok()?;
        let bytes = Read(body.get(80..)?).u16().ok()?;
        body.get(usize::from(place)..).and_then(|rest| rest.get(..usize::from(bytes).min(rest.len()))).unwrap_or(&[])
    };
    let federated = options3 & 0x10 != 0 && extends(body);
    let authentication = if federated {
        "fedauth"
    } else if options2 & 0x80 != 0 || !sspi.is_empty() {
        mechanism(sspi)
    } else {
        "password"
    };
    Some(Login {
        era: Era::of(version),
        user: field(40).filter(|_| authentication == "password"),
        host: field(36),
        application: field(48),
        database: field(68),
        authentication,
        ansi: options2 & 2 != 0,
    })
}

/// Whether the login asks for federated authentication (FeatureExt, feature 2).
fn extends(body: &[u8]) -> bool {
    let place = Read(body.get(56..).unwrap_or(&[])).u16().unwrap_or(0);
    let at = Read(body.get(usize::from(place)..).unwrap_or(&[])).u32().unwrap_or(0) as usize;
    let mut read = Read(body.get(at..).unwrap_or(&[]));
    while let Ok(id) = read.u8() {
        if id == 2 || id == 0xff {
            return id == 2;
        }
        let Ok(length) = read.u32() else { return false };
        if read.take(length as usize).is_err() {
            return false;
        }
    }
    false
}

/// How a token of SSPI proves who it is, as far as it shows.
fn mechanism(token: &[u8]) -> &'static str {
    const KERBEROS: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];
    if memchr::memmem::find(token, SIGNATURE).is_some() {
        "ntlm"
    } else if memchr::memmem::find(token, &KERBEROS).is_some() {
        "kerberos"
    } else {
        "sspi"
    }
}

const SIGNATURE: &[u8] = b"NTLMSSP\0";

/// The account in an NTLM AUTHENTICATE_MESSAGE, `DOMAIN\user`.
pub(super) fn ntlm(body: &[u8]) -> Option<String> {
    let at = memchr::memmem::find(body, SIGNATURE)?;
    let message = body.get(at..)?;
    if message.get(8..12)? != [3, 0, 0, 0] {
        return None;
    }
    let unicode = Read(message.get(60..)?).u32().ok()? & 1 != 0;
    let field = |at: usize| {
        let length = usize::from(Read(message.get(at..)?).u16().ok()?).min(NAME_BYTES_MAX);
        let place = Read(message.get(at + 4..)?).u32().ok()? as usize;
        let bytes = message.get(place..)?.get(..length)?;
        Some(if unicode { text(bytes) } else { String::from_utf8_lossy(bytes).into_owned() })
    };
    let user = field(36).filter(|user| !user.is_empty())?;
    Some(match field(28).filter(|domain| !domain.is_empty()) {
        Some(domain) => format!("{domain}\\{user}"),
        None => user,
    })
}
