// @generated automatically by Diesel CLI.

diesel::table! {
    bans (kind, target, subject) {
        kind -> Text,
        target -> Text,
        subject -> Text,
        id -> Text,
        since -> BigInt,
        ends -> BigInt,
    }
}

diesel::table! {
    hook_cursors (name) {
        name -> Text,
        row_id -> BigInt,
    }
}

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
        client_ref -> Nullable<Text>,
        target -> Nullable<BigInt>,
    }
}

diesel::table! {
    revocations (kind, subject) {
        kind -> Text,
        subject -> Text,
        not_before -> BigInt,
        ends -> BigInt,
    }
}

diesel::table! {
    slow_modes (topic) {
        topic -> Text,
        seconds -> BigInt,
        since -> BigInt,
        ends -> Nullable<BigInt>,
    }
}

diesel::table! {
    topics (topic) {
        topic -> Text,
        epoch -> BigInt,
        last_seq -> BigInt,
        pruned_through -> BigInt,
        clean -> Bool,
        past -> Text,
        importing -> Bool,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    bans,
    hook_cursors,
    messages,
    revocations,
    slow_modes,
    topics,
);
