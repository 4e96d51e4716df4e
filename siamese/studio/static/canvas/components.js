// Connected parts of a mask. The parts of a lesion are connected over sides and corners, background over sides alone, so that a ring
// whose pixels touch at a corner encloses a hole; the server's rules (siamese/masks/editing.py) are the same.
import { Mask } from './mask.js';

/** `{labels, sizes}`: labels is an Int32Array with the number of each lesion pixel's part, from 1; sizes[n] counts part n's pixels. */
export function parts(mask) {
  const { width, height, pixels } = mask;
  const labels = new Int32Array(pixels.length);
  const sizes = [0];
  const stack = [];
  for (let start = 0; start < pixels.length; start++) {
    if (!pixels[start] || labels[start]) continue;
    const label = sizes.length;
    let size = 0;
    labels[start] = label;
    stack.push(start);
    while (stack.length) {
      const i = stack.pop();
      size += 1;
      const x = i % width;
      const y = (i - x) / width;
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const j = v * width + u;
          if (pixels[j] && !labels[j]) {
            labels[j] = label;
            stack.push(j);
          }
        }
      }
    }
    sizes.push(size);
  }
  return { labels, sizes };
}

/** The part with the number `label`, as a mask. */
export function partOf(mask, labels, label) {
  const out = new Mask(mask.width, mask.height);
  for (let i = 0; i < labels.length; i++) out.pixels[i] = labels[i] === label ? 1 : 0;
  return out;
}

/** Background that no path over pixel sides connects with the frame, as a mask. */
export function holes(mask) {
  const { width, height, pixels } = mask;
  const outside = new Uint8Array(pixels.length);
  const stack = [];
  const visit = (i) => {
    if (!pixels[i] && !outside[i]) {
      outside[i] = 1;
      stack.push(i);
    }
  };
  for (let x = 0; x < width; x++) {
    visit(x);
    visit((height - 1) * width + x);
  }
  for (let y = 0; y < height; y++) {
    visit(y * width);
    visit(y * width + width - 1);
  }
  while (stack.length) {
    const i = stack.pop();
    const x = i % width;
    if (x > 0) visit(i - 1);
    if (x < width - 1) visit(i + 1);
    if (i >= width) visit(i - width);
    if (i < width * (height - 1)) visit(i + width);
  }
  const out = new Mask(width, height);
  for (let i = 0; i < pixels.length; i++) out.pixels[i] = pixels[i] || outside[i] ? 0 : 1;
  return out;
}
