// Changes of a whole mask, at once and without the server. Each takes a mask and returns a new one of the same size; what leaves the
// frame is lost. They follow the functions of siamese/masks/editing.py, and a test compares both on random masks.
import { holes, partOf, parts } from './components.js';
import { Mask } from './mask.js';

/** Mirror image: "horizontal" exchanges left and right, "vertical" top and bottom. */
export function flip(mask, axis) {
  const { width, height, pixels } = mask;
  const out = new Mask(width, height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      out.pixels[i] = pixels[axis === 'horizontal' ? y * width + width - 1 - x : (height - 1 - y) * width + x];
    }
  }
  return out;
}

/** Move by whole pixels to the right and downwards. */
export function shift(mask, right, down) {
  return transform(mask, { x: 0, y: 0 }, { scaleX: 1, scaleY: 1, degrees: 0, right: Math.round(right), down: Math.round(down) });
}

/** Enlarge (factor > 1) or reduce both sides about the lesion's centroid. */
export function scale(mask, factor) {
  return transform(mask, mask.centroid(), { scaleX: factor, scaleY: factor, degrees: 0, right: 0, down: 0 });
}

/** Turn clockwise on the screen about the lesion's centroid. */
export function rotate(mask, degrees) {
  return transform(mask, mask.centroid(), { scaleX: 1, scaleY: 1, degrees, right: 0, down: 0 });
}

/**
 * Nearest-neighbour warp about `centre` (pixel indices): scaled, then turned clockwise, then moved.
 */
export function transform(mask, centre, { scaleX, scaleY, degrees, right, down }) {
  const { width, height, pixels } = mask;
  const out = new Mask(width, height);
  if (!centre) return out;
  const angle = (degrees * Math.PI) / 180;
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  for (let y = 0, i = 0; y < height; y++) {
    const dy = y - down - centre.y;
    for (let x = 0; x < width; x++, i++) {
      const dx = x - right - centre.x;
      // The offset is rounded to the nearest pixel as SciPy does it: half of a pixel goes up.
      const u = Math.floor((cos * dx + sin * dy) / scaleX + centre.x + 0.5);
      const v = Math.floor((cos * dy - sin * dx) / scaleY + centre.y + 0.5);
      if (u >= 0 && v >= 0 && u < width && v < height) out.pixels[i] = pixels[v * width + u];
    }
  }
  return out;
}

/** Dilation by a disc: everything at most `radius` pixels from the lesion joins it. */
export function grow(mask, radius) {
  const squared = squaredDistances(mask, 1);
  const out = new Mask(mask.width, mask.height);
  for (let i = 0; i < squared.length; i++) if (squared[i] <= radius * radius) out.pixels[i] = 1;
  return out;
}

/** Erosion by a disc: everything at most `radius` pixels from the background leaves the lesion. Outside the frame counts as lesion. */
export function shrink(mask, radius) {
  const squared = squaredDistances(mask, 0);
  const out = new Mask(mask.width, mask.height);
  for (let i = 0; i < squared.length; i++) if (squared[i] > radius * radius) out.pixels[i] = 1;
  return out;
}

/** Round off a ragged margin: Gaussian blur of standard deviation `radius`, cut at the level that keeps the area. */
export function smooth(mask, radius) {
  const count = mask.count();
  if (!radius || !count) return mask.clone();
  const level = blur(mask.pixels, mask.width, mask.height, radius);
  const threshold = largest(level, count);
  const out = new Mask(mask.width, mask.height);
  for (let i = 0; i < level.length; i++) if (level[i] >= threshold) out.pixels[i] = 1;
  return out;
}

/** The value at place `count` if the values are sorted, the largest first. Sorts those of the margin alone if the place is among them. */
function largest(values, count) {
  const margin = values.filter((value) => value > 0.05 && value < 0.95);
  let above = 0;
  for (const value of values) if (value >= 0.95) above += 1;
  if (count > above && count <= above + margin.length) return margin.sort()[margin.length - (count - above)];
  return values.slice().sort()[values.length - count];
}

/** Background that the lesion encloses joins it. */
export function fillHoles(mask) {
  const enclosed = holes(mask);
  return new Mask(mask.width, mask.height, mask.pixels.map((pixel, i) => pixel | enclosed.pixels[i]));
}

/** The part with the most pixels, the first one from the top if several have as many. */
export function keepLargest(mask) {
  const { labels, sizes } = parts(mask);
  return sizes.length < 2 ? mask.clone() : partOf(mask, labels, sizes.indexOf(Math.max(...sizes)));
}

/**
 * The squared distance of each pixel to the nearest one of `value`; Infinity if there is none. Exact (Felzenszwalb and Huttenlocher 2012,
 * Theory of Computing 8, algorithm 1): a lower envelope of parabolas for each column, then for each row.
 */
export function squaredDistances(mask, value) {
  const { width, height, pixels } = mask;
  const out = new Float64Array(pixels.length).fill(Infinity);
  for (let i = 0; i < pixels.length; i++) if (pixels[i] === value) out[i] = 0;
  const longest = Math.max(width, height);
  const line = new Float64Array(longest);
  const room = { places: new Int32Array(longest), bounds: new Float64Array(longest + 1) };
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) line[y] = out[y * width + x];
    lowerEnvelope(line, height, room, out, x, width);
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) line[x] = out[y * width + x];
    lowerEnvelope(line, width, room, out, y * width, 1);
  }
  return out;
}

function lowerEnvelope(line, length, { places, bounds }, out, first, step) {
  let last = -1;
  for (let q = 0; q < length; q++) {
    if (line[q] === Infinity) continue;
    let from = -Infinity;
    while (last >= 0) {
      const p = places[last];
      from = (line[q] + q * q - line[p] - p * p) / (2 * (q - p));
      if (from > bounds[last]) break;
      last -= 1;
    }
    last += 1;
    places[last] = q;
    bounds[last] = last ? from : -Infinity;
  }
  if (last < 0) return;
  for (let q = 0, k = 0; q < length; q++) {
    while (k < last && bounds[k + 1] < q) k += 1;
    const away = q - places[k];
    out[first + q * step] = away * away + line[places[k]];
  }
}

/** Gaussian blur of values; the image is mirrored at the frame, and the kernel ends at three standard deviations. */
function blur(values, width, height, sigma) {
  const reach = Math.floor(3 * sigma + 0.5);
  const kernel = Float64Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp((-0.5 * (i - reach) ** 2) / sigma ** 2));
  const sum = kernel.reduce((total, weight) => total + weight, 0);
  const weights = kernel.map((weight) => weight / sum);
  const down = along(values, { length: height, step: width, lines: width, next: 1 }, weights, reach);
  const both = along(down, { length: width, step: 1, lines: height, next: width }, weights, reach);
  return both.map((value) => Math.round(value * 1e9) / 1e9); // so that pixels of the same level stay so, in whatever order one adds
}

function along(values, { length, step, lines, next }, weights, reach) {
  const out = new Float64Array(values.length);
  const padded = new Float64Array(length + 2 * reach);
  const period = 2 * length;
  for (let line = 0; line < lines; line++) {
    let first = length + reach; // what lies further than the kernel reaches from the lesion stays 0
    let last = -reach - 1;
    for (let i = -reach; i < length + reach; i++) {
      const k = ((i % period) + period) % period; // d c b a | a b c d | d c b a
      const value = values[line * next + (k < length ? k : period - 1 - k) * step];
      padded[i + reach] = value;
      if (value) {
        first = Math.min(first, i);
        last = i;
      }
    }
    for (let i = Math.max(0, first - reach); i < Math.min(length, last + reach + 1); i++) {
      let total = 0;
      for (let k = 0; k < weights.length; k++) total += weights[k] * padded[i + k];
      out[line * next + i * step] = total;
    }
  }
  return out;
}
