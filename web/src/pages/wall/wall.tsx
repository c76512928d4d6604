// Wall of all cameras. By default, cameras with problems come first.

import type { Signal } from "@preact/signals";
import { FilterInput } from "../../components/filter_input";
import { cameras, updatedAt } from "../../state/fleet";
import { may } from "../../state/session";
import { AddCamera } from "./add_camera";
import { SORT_LABELS } from "./camera_filter";
import { Summary } from "./summary";
import { Tile } from "./tile";
import { filterText, SIZE_LABELS, shownCameras, sortOrder, statusFilter, tileSize } from "./wall_settings";

export function WallPage() {
  const shown = shownCameras.value;
  return (
    <>
      <h1 class="visually-hidden">Cameras</h1>
      <Summary />
      <search class="toolbar">
        <FilterInput
          text={filterText}
          subject="cameras"
          placeholder="Filter by name, label, state or detected object"
        />
        <Choice label="Sort order" choice={sortOrder} options={SORT_LABELS} />
        <Choice label="Tile size" choice={tileSize} options={SIZE_LABELS} />
        {may("admin") && <AddCamera />}
      </search>
      {shown.length > 0 ? (
        <ul class={`wall wall-${tileSize.value}`}>
          {shown.map(({ id }) => (
            <Tile key={id} id={id} />
          ))}
        </ul>
      ) : (
        <Empty />
      )}
    </>
  );
}

interface ChoiceProps<T extends string> {
  readonly label: string;
  readonly choice: Signal<T>;
  /** Labels by value. */
  readonly options: Readonly<Record<T, string>>;
}

function Choice<T extends string>({ label, choice, options }: ChoiceProps<T>) {
  return (
    <select
      aria-label={label}
      title={label}
      value={choice.value}
      onChange={(event) => {
        choice.value = event.currentTarget.value as T;
      }}
    >
      {Object.entries<string>(options).map(([value, text]) => (
        <option key={value} value={value}>
          {text}
        </option>
      ))}
    </select>
  );
}

function Empty() {
  if (cameras.value.length === 0) {
    return (
      <p class="empty">
        {updatedAt.value === null
          ? "Loading cameras…"
          : `This hub has no cameras. Add one ${may("admin") ? "here or " : ""}in cameras.yaml.`}
      </p>
    );
  }
  return (
    <p class="empty">
      No camera matches the filter.{" "}
      <button
        type="button"
        class="button"
        onClick={() => {
          filterText.value = "";
          statusFilter.value = "all";
        }}
      >
        Show all {cameras.value.length} cameras
      </button>
    </p>
  );
}
