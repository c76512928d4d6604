import { useId } from "preact/hooks";

interface Props {
  readonly label: string;
  readonly value: number;
  /** Every value it may have, in order. */
  readonly steps: readonly number[];
  readonly shown: (value: number) => string;
  readonly onChange: (value: number) => void;
  /** The file's value, where that is known and another than this one. */
  readonly file: number | null;
}

/** A number out of several, with a way back to the one that cameras.yaml has. */
export function Slider({ label, value, steps, shown, onChange, file }: Props) {
  const id = useId();
  return (
    <div class="slider">
      <label for={id}>{label}</label>
      <output for={id}>{shown(value)}</output>
      <input
        id={id}
        type="range"
        min={0}
        max={steps.length - 1}
        value={nearest(steps, value)}
        aria-valuetext={shown(value)}
        onInput={(event) => {
          const chosen = steps[Number(event.currentTarget.value)];
          if (chosen !== undefined) {
            onChange(chosen);
          }
        }}
      />
      {file !== null && (
        <button type="button" class="button button-quiet" onClick={() => onChange(file)}>
          Back to the file’s {shown(file)}
        </button>
      )}
    </div>
  );
}

/** The place of a value among the steps, or of the step next to it. */
function nearest(steps: readonly number[], value: number): number {
  const exact = steps.indexOf(value);
  if (exact >= 0) {
    return exact;
  }
  const distances = steps.map((step) => Math.abs(step - value));
  return distances.indexOf(Math.min(...distances));
}
