// Binary socket message: header length (4 bytes, big-endian), JSON header, JPEG.

import type { PreviewHeader } from "./types";

export interface Preview {
  readonly header: PreviewHeader;
  readonly jpeg: Uint8Array<ArrayBuffer>;
}

/** Parse a message; null if it is truncated or malformed. */
export function parsePreview(message: ArrayBuffer): Preview | null {
  if (message.byteLength < 4) {
    return null;
  }
  const length = new DataView(message).getUint32(0);
  if (message.byteLength <= 4 + length) {
    return null;
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(message, 4, length));
    return { header: JSON.parse(text) as PreviewHeader, jpeg: new Uint8Array(message, 4 + length) };
  } catch {
    return null;
  }
}
