//! Which builder: `--builder`, else `BUILDKIT_HOST`, else `[builder]` of the manifest, else what the engine can do. The
//! engine itself is docker's own choice ([`super::context`]).

use bollard::Docker;

use super::address::{Address, Peer};
use super::buildkitd::Config;
pub(crate) use super::buildkitd::UsedRegistry;
use super::tls::TlsFiles;
use super::{DialError, container, context, engine, remote};
use crate::buildkit::Builder;
use crate::environment::Environment;
use crate::manifest::model::{BuilderSettings, DriverSetting};
use crate::registry::credentials::CredentialSources;

/// What there is to go by.
pub(crate) struct Wanted<'a> {
    /// `--builder`: addresses, or a driver.
    pub(crate) flag: &'a [String],
    pub(crate) settings: &'a BuilderSettings,
    pub(crate) environment: &'a Environment,
    /// What a builder that skiff makes must be able to reach.
    pub(crate) registries: &'a [UsedRegistry],
    /// For the image of such a builder.
    pub(crate) credentials: &'a CredentialSources,
    /// Caches are in S3, which the engine's own BuildKit knows nothing of.
    pub(crate) s3: bool,
    /// Images are to go to the local engine as well.
    pub(crate) load: bool,
}

/// Builders that answer.
pub(crate) struct Found {
    /// At least one.
    pub(crate) builders: Vec<Builder>,
    /// Members of a pool that do not.
    pub(crate) dead: Vec<DialError>,
    /// The local engine, if images are to go there by way of this process.
    pub(crate) engine: Option<Docker>,
    /// Why this driver, for people.
    pub(crate) reason: String,
}

/// The driver or the addresses that are meant, and who says so.
#[derive(Debug, PartialEq, Eq)]
enum Meant {
    Driver(DriverSetting),
    Addresses(Vec<String>),
}

pub(crate) async fn find(wanted: Wanted<'_>) -> Result<Found, DialError> {
    let (meant, source) = meant(wanted.flag, wanted.environment, wanted.settings)?;
    let driver = match meant {
        Meant::Addresses(addresses) => return at(&addresses, source, &wanted).await,
        Meant::Driver(driver) => driver,
    };
    let engine = engine::ask(&context::engine(wanted.environment)?).await?;
    let (driver, reason) = match driver {
        DriverSetting::Remote => return Err(DialError::NoEndpoint),
        DriverSetting::Auto if wanted.s3 => (
            DriverSetting::Container,
            "the engine's own BuildKit has no S3 caches",
        ),
        DriverSetting::Auto if engine.has_containerd_store() => (
            DriverSetting::Docker,
            "the engine has the containerd image store",
        ),
        DriverSetting::Auto => (
            DriverSetting::Container,
            "the engine has no containerd image store",
        ),
        asked => (asked, source),
    };
    let mut local = None;
    let builder = if driver == DriverSetting::Docker {
        engine.builder().await?
    } else {
        local = wanted.load.then(|| engine.docker.clone());
        let config = Config::new(&engine.info, wanted.registries, wanted.environment);
        container::builder(&engine, &wanted.settings.image, &config, wanted.credentials).await?
    };
    Ok(Found {
        builders: vec![builder],
        dead: vec![],
        engine: local,
        reason: reason.to_owned(),
    })
}

fn meant(
    flag: &[String],
    environment: &Environment,
    settings: &BuilderSettings,
) -> Result<(Meant, &'static str), DialError> {
    if !flag.is_empty() {
        return Ok((read(flag)?, "--builder"));
    }
    if let Some(host) = environment.get("BUILDKIT_HOST") {
        let hosts: Vec<String> = host.split(',').map(|host| host.trim().to_owned()).collect();
        return Ok((read(&hosts)?, "BUILDKIT_HOST"));
    }
    if settings.endpoints.is_empty() {
        return Ok((Meant::Driver(settings.driver), "builder.driver"));
    }
    Ok((
        Meant::Addresses(settings.endpoints.clone()),
        "builder.endpoints",
    ))
}

/// One driver, or addresses.
fn read(words: &[String]) -> Result<Meant, DialError> {
    let driver = |word: &str| match word {
        "auto" => Some(DriverSetting::Auto),
        "docker" => Some(DriverSetting::Docker),
        "docker-container" => Some(DriverSetting::Container),
        _ => None,
    };
    if let [word] = words
        && let Some(driver) = driver(word)
    {
        return Ok(Meant::Driver(driver));
    }
    match words.iter().find(|word| !word.contains("://")) {
        Some(word) => Err(DialError::NotABuilder(word.clone())),
        None => Ok(Meant::Addresses(words.to_vec())),
    }
}

/// Builders at these addresses.
async fn at(texts: &[String], source: &str, wanted: &Wanted<'_>) -> Result<Found, DialError> {
    let environment = wanted.environment;
    let local = async || engine::ask(&context::engine(environment)?).await;
    let found = async |builders, dead| {
        Ok(Found {
            builders,
            dead,
            engine: if wanted.load {
                Some(local().await?.docker)
            } else {
                None
            },
            reason: source.to_owned(),
        })
    };
    if let [text] = texts
        && let Some(name) = text.strip_prefix("docker-container://")
    {
        let builder = container::existing(&local().await?, name).await?;
        return found(vec![builder], vec![]).await;
    }
    let tls = tls(environment);
    let addresses = texts
        .iter()
        .map(|text| Address::parse(text, Peer::BuildKit, tls.as_ref()));
    let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
    let (builders, dead) = remote::pool(&addresses).await?;
    found(builders, dead).await
}

/// Certificates for `tcp://` and `tls://` builders: a folder, or single files, which come first.
fn tls(environment: &Environment) -> Option<TlsFiles> {
    let folder = environment.get("BUILDKIT_TLS_DIR");
    let of_folder = folder.map(|folder| TlsFiles::of_folder(&environment.directory.join(folder)));
    let file = |name| {
        environment
            .get(name)
            .map(|path| environment.directory.join(path))
    };
    let named = TlsFiles {
        ca: file("BUILDKIT_TLS_CACERT"),
        cert: file("BUILDKIT_TLS_CERT"),
        key: file("BUILDKIT_TLS_KEY"),
        server_name: environment
            .get("BUILDKIT_TLS_SERVERNAME")
            .map(str::to_owned),
        skip_verify: false,
    };
    if folder.is_none() && named == TlsFiles::default() {
        return None;
    }
    let of_folder = of_folder.unwrap_or_default();
    Some(TlsFiles {
        ca: named.ca.or(of_folder.ca),
        cert: named.cert.or(of_folder.cert),
        key: named.key.or(of_folder.key),
        ..named
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(
        flag: &[&str],
        variable: Option<&str>,
        endpoints: &[&str],
    ) -> Result<(Meant, &'static str), String> {
        let own = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        let variable = variable.map(|value| ("BUILDKIT_HOST".to_owned(), value.to_owned()));
        let environment = Environment {
            variables: variable.into_iter().collect(),
            directory: std::path::PathBuf::new(),
            stdout_is_terminal: false,
            stderr_is_terminal: false,
        };
        let settings = BuilderSettings {
            driver: DriverSetting::Auto,
            image: String::new(),
            endpoints: own(endpoints),
        };
        meant(&own(flag), &environment, &settings).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flag_wins_over_the_environment_over_the_manifest() {
        let at = |text: &str| Meant::Addresses(vec![text.to_owned()]);
        let (a, b, c) = ("tcp://a:1", "tcp://b:1", "tcp://c:1");
        assert_eq!(chosen(&[a], Some(b), &[c]), Ok((at(a), "--builder")));
        assert_eq!(chosen(&[], Some(b), &[c]), Ok((at(b), "BUILDKIT_HOST")));
        assert_eq!(chosen(&[], None, &[c]), Ok((at(c), "builder.endpoints")));
        let auto = Meant::Driver(DriverSetting::Auto);
        assert_eq!(chosen(&[], None, &[]), Ok((auto, "builder.driver")));
        let container = Meant::Driver(DriverSetting::Container);
        assert_eq!(
            chosen(&["docker-container"], Some(b), &[]),
            Ok((container, "--builder"))
        );
        assert_eq!(
            chosen(&["dokcer"], None, &[]),
            Err("`dokcer` is not a builder".into())
        );
    }
}
