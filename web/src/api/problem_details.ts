// Problem documents (RFC 9457), which are the gateway's error responses.

export interface ProblemDetails {
  readonly detail?: unknown;
  readonly title?: unknown;
  /** One entry per invalid field of the request body. */
  readonly errors?: readonly { readonly field: string; readonly code: string; readonly detail: string }[];
}

/** The message for the user; undefined if the document has none. */
export function problemMessage({ detail, title }: ProblemDetails): string | undefined {
  return [detail, title].find((text): text is string => typeof text === "string" && text !== "");
}

/** Error messages by field of the request body. */
export function fieldErrors({ errors = [] }: ProblemDetails): ReadonlyMap<string, string> {
  return new Map(errors.map(({ field, detail }) => [field, detail]));
}
