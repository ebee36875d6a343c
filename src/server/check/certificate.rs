//! The certificate of TLS: its files, its dates, its name.

use super::Finding;
use crate::server::certificates::{Age, Certificate};
use crate::server::config::ServeConfig;

const NAME: &str = "certificate";

pub(super) fn certificate(config: &ServeConfig) -> Option<Finding> {
    let certificate = match Certificate::read(&config.tls) {
        Ok(Some(certificate)) => certificate,
        Ok(None) if config.tls.is_on() => {
            let text = "there is none yet: the server gets one from the ACME server when it starts";
            return Some(Finding::warn(NAME, text));
        }
        Ok(None) => return None,
        // The finding about acme_dir says it.
        Err(_) if !config.tls.acme.is_empty() && config.tls.acme_dir.is_file() => return None,
        Err(error) => return Some(Finding::fail(NAME, error.to_string())),
    };
    let validity = certificate.validity;
    let (begins, ends) = (validity.begin_text(), validity.end_text());
    Some(match validity.age() {
        Age::Ended => Finding::fail(
            NAME,
            format!("it has ended, at {ends}: clients refuse it; get a new one"),
        ),
        Age::Early => Finding::fail(
            NAME,
            format!(
                "it begins at {begins}: clients refuse it until then; look at the clock of this machine"
            ),
        ),
        Age::Late => Finding::warn(NAME, format!("it ends soon, at {ends}: get a new one")),
        Age::Good => match &config.public_host {
            Some(host) if !certificate.is_for(host) => Finding::warn(
                NAME,
                format!("it is not for the public_host {host}: browsers refuse it under that name"),
            ),
            _ => Finding::ok(NAME, format!("the key fits, it ends at {ends}")),
        },
    })
}
