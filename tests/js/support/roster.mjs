/** Who is present, kept by a client's Presence: a class since 1.4, and functions before. */
export class Roster {
  #Presence;
  #presence;

  constructor({ Presence }, channel) {
    this.#Presence = Presence;
    this.#presence = typeof Presence === "function" ? new Presence(channel) : synced(Presence, channel);
  }

  get list() {
    const entries = this.#Presence.list(this.#presence.state, (key, presence) => [key, presence]);
    return metasOf(Object.fromEntries(entries));
  }
}

/**
 * The metas by key, without their refs and in an order of their own: a client before 1.4 puts last what was there
 * before a diff that it applied ahead of its first state.
 */
export function metasOf(presences) {
  const entries = Object.entries(presences).map(([key, { metas }]) => [key, metas.map(withoutRefs).sort(byText)]);
  return Object.fromEntries(entries);
}

function synced(Presence, channel) {
  const presence = { state: {} };
  channel.on("presence_state", (state) => {
    presence.state = Presence.syncState(presence.state, state);
  });
  channel.on("presence_diff", (diff) => {
    presence.state = Presence.syncDiff(presence.state, diff);
  });
  return presence;
}

function withoutRefs({ phx_ref, phx_ref_prev, ...meta }) {
  return meta;
}

function byText(one, other) {
  return JSON.stringify(one).localeCompare(JSON.stringify(other));
}
