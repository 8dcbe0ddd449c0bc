/** From native rows, which are arrays, to objects. */

import type { NativeResult, NativeRows } from "./native.js";
import type { ExecuteResult, Row, Rows, Value } from "./types.js";

function toObject(columns: readonly string[], values: readonly Value[]): Row {
  const row: Row = {};
  for (let i = 0; i < columns.length; i++) {
    const column = columns[i] as string;
    const value = values[i] as Value;
    if (column === "__proto__") {
      // An assignment would replace the row's prototype.
      Object.defineProperty(row, column, {
        value,
        enumerable: true,
        configurable: true,
        writable: true,
      });
    } else {
      row[column] = value;
    }
  }
  return row;
}

/** The public form of rows. */
export function toRows<R>(from: NativeRows): Rows<R> {
  const rows = from.rows.map((values) => toObject(from.columns, values));
  // Not enumerable, so that the array compares and prints like any other.
  Object.defineProperty(rows, "columns", { value: from.columns });
  Object.defineProperty(rows, "arrays", { value: from.rows });
  return rows as unknown as Rows<R>;
}

/** The public form of a write's result. */
export function toResult<R>(from: NativeResult): ExecuteResult<R> {
  return { ...from, rows: toRows<R>(from.rows) };
}
