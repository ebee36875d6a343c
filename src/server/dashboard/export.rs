//! The stored messages of a topic as lines of JSON, a page of the database at a time.

use actix_web::http::header;
use actix_web::web::{Bytes, Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;

use super::Dashboard;
use super::audit::Deed;
use super::rooms::iso;
use crate::log::{LoadError, Seq};
use crate::message::RawJson;
use crate::store::{CommittedMessage, Reader, Window};

/// The most messages of a page, which has at most 4 MB. The memory of an export is two pages.
const PAGE: usize = 500;

#[derive(Deserialize)]
pub(super) struct Exported {
    topic: String,
}

pub(super) async fn export(
    dashboard: Data<Dashboard>,
    request: HttpRequest,
    exported: Query<Exported>,
) -> HttpResponse {
    let Some(operator) = dashboard.operator(&request) else {
        return HttpResponse::Unauthorized().body("sign in at /dashboard/\n");
    };
    let Exported { topic } = exported.into_inner();
    let writer = dashboard.0.services.writer.as_ref();
    let Some(writer) = writer.filter(|_| !topic.contains('\0')) else {
        return HttpResponse::NotFound().body("nothing of this topic is saved\n");
    };
    let deed = Deed {
        topic: Some(&topic),
        ..Deed::default()
    };
    operator.audit("exported", &deed);
    HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{}.jsonl\"", file_name(&topic)),
        ))
        .streaming(pages(writer.reader(), topic))
}

/// A piece of text for each page. An error breaks the answer off, so that nobody takes it for whole.
fn pages(
    reader: Reader,
    topic: String,
) -> impl futures_core::Stream<Item = Result<Bytes, LoadError>> {
    stream::try_unfold(Some(Seq::ZERO), move |after| {
        let (reader, topic) = (reader.clone(), topic.clone());
        async move {
            let Some(after) = after else {
                return Ok(None);
            };
            let window = Window {
                after: Some(after),
                before: None,
            };
            let page = reader.list(&topic, window, PAGE).await?;
            let next = page.messages.last().map(|message| message.id.seq);
            let text: String = page.messages.iter().map(line).collect();
            Ok(match next {
                Some(next) => Some((Bytes::from(text), page.after.map(|_| next))),
                None => None,
            })
        }
    })
}

fn line(message: &CommittedMessage) -> String {
    let line = json!({
        "id": message.id.to_string(),
        "event": message.event,
        "client_ref": message.client_ref,
        "inserted_at": iso(message.inserted_at),
        "updated_at": iso(message.updated_at),
    });
    let line = RawJson::from(line).with_last("payload", message.payload.get());
    format!("{}\n", line.get())
}

/// The topic, as far as every file system takes it.
fn file_name(topic: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    topic.chars().map(plain).take(100).collect()
}
