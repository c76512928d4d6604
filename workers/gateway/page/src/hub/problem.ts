// Problem documents (RFC 9457), as the gateway answers with what it refuses. Pure.

export interface Problem {
  readonly detail?: unknown;
  readonly title?: unknown;
  /** `pointer` leads into the request: "/body/fps". */
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[];
}

/** Its sentence; undefined where it has none. */
export function sentence({ detail, title }: Problem): string | undefined {
  return [detail, title].find((text): text is string => typeof text === "string" && text !== "");
}

/** What is wrong with each field of a request; the hub itself tells of one a line, "fps: must be more than 0". */
export function faults(problem: Problem): ReadonlyMap<string, string> {
  if (problem.errors !== undefined) {
    return new Map(problem.errors.map(({ pointer, detail }) => [pointer.split("/").at(-1) ?? "", detail]));
  }
  const lines = (sentence(problem) ?? "").split("\n").flatMap((line) => {
    const [, field, text] = /^([a-z_]+): (.+)$/i.exec(line) ?? [];
    return field === undefined || text === undefined ? [] : [[field.toLowerCase(), text] as const];
  });
  return new Map(lines);
}
