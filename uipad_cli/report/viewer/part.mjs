// One part of a report as cloud.py writes it: what its bytes mean.
import { Box3, Vector3 } from "three";

const TRIMMED = 0.002; // share of points at either end of an axis that may lie outside the fitted view
const UNSEEN = 255; // score of a place that the model never saw; 0..254 span 0..score_high

export function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** Places of a part in metres, three numbers a point; y points up here and down in the file. */
export function metres({ points, low, high }) {
  const steps = new Uint16Array(bytes(points).buffer);
  const sign = [1, -1, 1];
  return Float32Array.from(steps, (step, at) => {
    const axis = at % 3;
    return sign[axis] * (low[axis] + (step / 65535) * (high[axis] - low[axis]));
  });
}

/** Box of a part without its outermost points, so that one stray point does not make the part small. */
export function trimmed(places) {
  const box = new Box3();
  const count = places.length / 3;
  const cut = Math.floor(TRIMMED * count);
  for (let axis = 0; axis < 3; axis++) {
    const sorted = Float32Array.from({ length: count }, (_, at) => places[3 * at + axis]).sort();
    box.min.setComponent(axis, sorted[cut]);
    box.max.setComponent(axis, sorted[count - 1 - cut]);
  }
  return box;
}

/** Mean distance of neighbours in metres: the area of the cells that hold points, shared out among the points. */
export function spacing(places, box) {
  const size = box.getSize(new Vector3());
  const side = Math.max(1, Math.round(Math.sqrt(places.length / 3) / 5));
  const cells = new Set();
  for (let at = 0; at < places.length; at += 3) {
    const column = Math.floor((side * (places[at] - box.min.x)) / (size.x || 1));
    const row = Math.floor((side * (places[at + 1] - box.min.y)) / (size.y || 1));
    if (column >= 0 && column < side && row >= 0 && row < side) cells.add(row * side + column);
  }
  const area = (size.x * size.y * cells.size) / (side * side);
  return Math.sqrt(area / (places.length / 3)) || size.length() / 100 || 1e-4;
}

export function summary(part, box) {
  const size = box.getSize(new Vector3()).toArray().map((length) => (1000 * length).toPrecision(3) * 1);
  return `${part.count.toLocaleString("en")} points, ${size.join(" x ")} mm.`;
}

/** What to say about a point of this score, and whether it lies above the threshold. */
export function scoreText(part, level) {
  if (level === UNSEEN) return { text: "not seen", above: false };
  const score = (level * part.score_high) / (UNSEEN - 1);
  const more = part.score_clipped && level === UNSEEN - 1 ? " or more" : "";
  return { text: `${score.toFixed(2)} x${more}`, above: score > 1 };
}
