import type { Signal } from "@preact/signals";

interface Props {
  readonly text: Signal<string>;
  /** Noun for the filtered items, such as `cameras`. */
  readonly subject: string;
  readonly placeholder: string;
}

/** The search field of a page. The key `/` moves the focus to it. */
export function FilterInput({ text, subject, placeholder }: Props) {
  return (
    <input
      id="filter"
      type="search"
      placeholder={placeholder}
      aria-label={`Filter ${subject}`}
      aria-keyshortcuts="/"
      value={text.value}
      onInput={(event) => {
        text.value = event.currentTarget.value;
      }}
    />
  );
}
