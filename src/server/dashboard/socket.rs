//! The socket of the dashboard: it lets in browsers that have signed in, from the server's own page.

use super::channel::{DashboardChannel, TOPIC};
use super::operator::Operator;
use super::{Dashboard, ROOT};
use crate::admission::{Admission, AdmissionOptions};
use crate::assigns::Assigns;
use crate::endpoint::{Endpoint, Mount, TransportOptions};
use crate::pubsub::PubSub;
use crate::rate::Rate;
use crate::server::config::ServeConfig;
use crate::socket::{
    ConnectInfo, ConnectRefused, Expiry, Params, Permit, RateLimits, Socket, SocketOptions,
    SocketRouter,
};
use crate::transport::{CheckOrigin, HandshakeOptions};

/// The most open dashboards.
const MAX_SOCKETS: usize = 100;
/// The longest message of a dashboard, in bytes: one that publishes.
const MAX_FRAME: usize = 1_000_000;

struct DashboardSocket(Dashboard);

impl Socket for DashboardSocket {
    async fn connect(
        &self,
        _: &Params,
        _: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        let operator = assigns.get::<Operator>();
        let operator = operator.ok_or(ConnectRefused::because("nobody has signed in"))?;
        let session = operator.session;
        assigns.insert(Expiry::after(session.left()));
        let dashboard = self.0.clone();
        assigns.insert(Permit::new(move || dashboard.0.sessions.lasts(session)));
        Ok(())
    }
}

/// The places of the dashboard's sockets.
pub(super) fn admission(config: &ServeConfig) -> Admission {
    Admission::new(AdmissionOptions {
        max_connections: MAX_SOCKETS,
        trusted_proxies: config.trusted_proxies.clone(),
        ..AdmissionOptions::default()
    })
}

/// The endpoint with the dashboard's socket. It has its own topics and its own places: a full server lets operators in.
pub(super) fn endpoint(dashboard: &Dashboard) -> Endpoint {
    let router = SocketRouter::new()
        .state(dashboard.clone())
        .channel::<DashboardChannel>(TOPIC);
    let (guard, socket) = (dashboard.clone(), DashboardSocket(dashboard.clone()));
    let mount = Mount::new(&format!("{ROOT}/socket"), socket, router)
        .on_request(move |request, assigns| {
            if guard.is_own_page(request)
                && let Some(operator) = guard.operator(request)
            {
                assigns.insert(operator);
            }
        })
        .transports(TransportOptions {
            handshake: HandshakeOptions {
                // `is_own_page` asks for more, whatever the server's own setting.
                check_origin: CheckOrigin::Off,
                ..HandshakeOptions::default()
            },
            ..TransportOptions::default()
        })
        .options(SocketOptions {
            max_frame_size: MAX_FRAME,
            max_channels: 1,
            rates: RateLimits {
                joins: Rate::new(1, 20),
                pushes: Rate::new(20, 100),
                bytes: Rate::new(1_000_000, 2_000_000),
            },
            ..SocketOptions::default()
        });
    Endpoint::builder(PubSub::new())
        .admission(dashboard.0.admission.clone())
        .mount(mount)
        .build()
}
