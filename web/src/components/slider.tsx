import { useId } from "preact/hooks";

interface Props {
  readonly label: string;
  readonly value: number;
  /** Selectable values in ascending order. */
  readonly steps: readonly number[];
  readonly format: (value: number) => string;
  readonly onChange: (value: number) => void;
  /** The value in cameras.yaml; null if it is unknown or equal to `value`. */
  readonly fileValue: number | null;
}

/** Slider over given values, with a button that restores the value in cameras.yaml. */
export function Slider({ label, value, steps, format, onChange, fileValue }: Props) {
  const id = useId();
  return (
    <div class="slider">
      <label for={id}>{label}</label>
      <output for={id}>{format(value)}</output>
      <input
        id={id}
        type="range"
        min={0}
        max={steps.length - 1}
        value={nearestIndex(steps, value)}
        aria-valuetext={format(value)}
        onInput={(event) => {
          const selected = steps[Number(event.currentTarget.value)];
          if (selected !== undefined) {
            onChange(selected);
          }
        }}
      />
      {fileValue !== null && (
        <button type="button" class="button button-quiet" onClick={() => onChange(fileValue)}>
          Reset to {format(fileValue)} (cameras.yaml)
        </button>
      )}
    </div>
  );
}

/** Index of the step that is nearest to a value. */
function nearestIndex(steps: readonly number[], value: number): number {
  const exact = steps.indexOf(value);
  if (exact >= 0) {
    return exact;
  }
  const distances = steps.map((step) => Math.abs(step - value));
  return distances.indexOf(Math.min(...distances));
}
