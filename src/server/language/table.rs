//! [`only_tables`]: structs of the configuration that a table of TOML makes, and no array.

/// Implements `Deserialize` for structs with `#[serde(remote = "Self")]`, which gives them the derived function under
/// the same name. That function alone would also read an array, as the fields in the order of the struct.
macro_rules! only_tables {
    ($($table:ty),+ $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $table {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                struct Table;

                impl<'de> serde::de::Visitor<'de> for Table {
                    type Value = $table;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a table")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        map: A,
                    ) -> Result<Self::Value, A::Error> {
                        // The derived function.
                        <$table>::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    }
                }

                input.deserialize_map(Table)
            }
        }
    )+};
}

pub(crate) use only_tables;
