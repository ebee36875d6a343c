//! [`history_item`]: the items of a history, as a template.

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;

use super::template::{Scope, Template, Variable};

/// The variables of an item: it is the same for every client.
const ITEM: Scope = Scope::of(&[
    Variable::Payload,
    Variable::Id,
    Variable::Inserted,
    Variable::Event,
    Variable::Topic,
]);

/// `history_item`: the item of a message in a history.
pub(crate) fn history_item<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<Template>, D::Error> {
    let value = Value::deserialize(input)?;
    let template = Template::parse(&value, ITEM);
    template.map(Some).map_err(D::Error::custom)
}
