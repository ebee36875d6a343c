export const ok = (response) => ({ status: "ok", response });
export const error = (response) => ({ status: "error", response });

/** A payload that does not survive careless handling of JSON. */
export const INTRICATE = {
  unicode: "Grüße 你好 🦀 \u2028 \u0000 \ud83d\udc69\u200d\ud83d\udcbb",
  nested: [1, [2, [3, [{ deep: ["er"] }]]], []],
  numbers: [0, -1, 0.1, 1.5e-7, 1e21, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
  others: { yes: true, no: false, nothing: null, empty: {} },
};

export const numbered = (count) => Array.from({ length: count }, (_, number) => ({ number }));

export const bytes = (...values) => Uint8Array.from(values).buffer;

/** All values of a byte, over and over. */
export const manyBytes = (length) => Uint8Array.from({ length }, (_, index) => index % 256).buffer;
