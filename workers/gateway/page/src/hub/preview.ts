// A binary message: four bytes of length, big-endian, a JSON header of that length, and a JPEG.

import type { PreviewHeader } from "./model";

export interface Preview {
  readonly header: PreviewHeader;
  readonly jpeg: Uint8Array<ArrayBuffer>;
}

/** The two parts of a message; null for one that is cut short or is not of this kind. */
export function preview(message: ArrayBuffer): Preview | null {
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
