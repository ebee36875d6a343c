//! [`Assigns`]: the data that an application stores with a socket. Phoenix: `socket.assigns`.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

type Values = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// Values by their type. `connect` fills them in. Every channel starts with its own copy, so no channel
/// sees the changes of another.
///
/// ```
/// use slackir::Assigns;
///
/// struct UserId(u64);
///
/// let mut assigns = Assigns::default();
/// assigns.insert(UserId(7));
/// let copy = assigns.clone();
/// assigns.insert(UserId(8));
/// assert_eq!(assigns.get::<UserId>().unwrap().0, 8);
/// assert_eq!(copy.get::<UserId>().unwrap().0, 7);
/// ```
#[derive(Clone, Default)]
pub struct Assigns {
    /// Shared by all copies until one of them changes. `None` while there are no values.
    values: Option<Arc<Values>>,
}

impl Assigns {
    /// Assigns with one value.
    pub fn of<T: Send + Sync + 'static>(value: T) -> Self {
        let mut assigns = Self::default();
        assigns.insert(value);
        assigns
    }

    /// Stores a value, in place of one of the same type.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.values_mut().insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// Copies all values of `other`, in place of values of the same types.
    pub fn extend(&mut self, other: &Self) {
        if self.values.is_none() {
            self.values.clone_from(&other.values);
        } else if let Some(values) = &other.values {
            let values = values.iter().map(|(id, value)| (*id, Arc::clone(value)));
            self.values_mut().extend(values);
        }
    }

    fn values_mut(&mut self) -> &mut Values {
        Arc::make_mut(self.values.get_or_insert_default())
    }

    /// The value of this type, if one was assigned.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.value::<T>()?.downcast_ref()
    }

    /// The value of this type as an `Arc`, if one was assigned.
    pub fn get_shared<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(self.value::<T>()?).downcast().ok()
    }

    fn value<T: 'static>(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.values.as_ref()?.get(&TypeId::of::<T>())
    }
}

impl fmt::Debug for Assigns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assigns")
            .field(
                "values",
                &self.values.as_ref().map_or(0, |values| values.len()),
            )
            .finish()
    }
}
