//! The socket of the dashboard: it lets in browsers that have signed in, from the server's own page.

use super::channel::{DashboardChannel, TOPIC};
use super::operator::Operator;
use super::session::Session;
use super::{Dashboard, ROOT};
use crate::admission::{Admission, AdmissionOptions};
use crate::assigns::Assigns;
use crate::endpoint::{Endpoint, Mount, TransportOptions};
use crate::pubsub::PubSub;
use crate::rate::Rate;
use crate::server::config::ServeConfig;
use crate::socket::{
    ConnectInfo, ConnectRefused, Expiry, Params, RateLimits, Socket, SocketOptions, SocketRouter,
};
use crate::transport::{CheckOrigin, HandshakeOptions};

/// The most open dashboards.
const MAX_SOCKETS: usize = 100;
/// The longest message of a dashboard, in bytes: one that publishes.
const MAX_FRAME: usize = 1_000_000;

struct DashboardSocket;

impl Socket for DashboardSocket {
    async fn connect(
        &self,
        _: &Params,
        _: &ConnectInfo,
        assigns: &mut Assigns,
    ) -> Result<(), ConnectRefused> {
        let operator = assigns.get::<Operator>();
        let operator = operator.ok_or(ConnectRefused::because("nobody has signed in"))?;
        let expiry = Expiry::after(operator.session.left());
        assigns.insert(expiry);
        Ok(())
    }

    fn id(&self, assigns: &Assigns) -> Option<String> {
        let operator = assigns.get::<Operator>()?;
        Some(operator.session.socket_id())
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
    let guard = dashboard.clone();
    let mount = Mount::new(&format!("{ROOT}/socket"), DashboardSocket, router)
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

impl Dashboard {
    /// Closes the sockets of a session that was signed out.
    pub(super) async fn close_sockets(endpoint: &Endpoint, session: Session) {
        let told = endpoint
            .broadcast(&session.socket_id(), "disconnect", serde_json::json!({}))
            .await;
        debug_assert!(told.is_ok(), "nothing of it is stored");
    }
}
