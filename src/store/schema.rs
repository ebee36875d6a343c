// @generated automatically by Diesel CLI.

diesel::table! {
    messages (id) {
        id -> BigInt,
        name -> Nullable<Text>,
        message -> Nullable<Text>,
        inserted_at -> Timestamp,
        updated_at -> Timestamp,
        topic -> Text,
        event -> Text,
        payload -> Text,
        seq -> BigInt,
    }
}
