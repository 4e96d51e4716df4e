// Paints photo and mask. The mask is a picture of its own, as large as the drawing, of which a stroke changes a rectangle; only that
// rectangle is painted again, because a browser without a graphics card paints in software.

const COLOUR = [94, 234, 212];
const EDGE = [13, 148, 136];
const GROUND = '#0f172a';
const SMOOTH_BELOW = 3;

/** Paints `mask` as `view` shows it on the canvas element. */
export class Painter {
  constructor(canvas, mask, view) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
    this.layer = document.createElement('canvas');
    this.view = view;
    this.photo = null;
    this.image = null;
    /** From 0, the mask alone, to 1, the synthetic image alone. */
    this.blend = 0;
    this.opacity = 0.85;
    this.outlined = false;
    this.hidden = false;
    this.setMask(mask);
  }

  /** Show another mask object, or one of another size. */
  setMask(mask) {
    this.mask = mask;
    this.layer.width = mask.width;
    this.layer.height = mask.height;
    this.layerContext = this.layer.getContext('2d', { willReadFrequently: true });
    this.refresh(null);
  }

  /** Give the canvas element as many pixels as the screen has at its place. */
  setSide(side, ratio) {
    const pixels = Math.max(1, Math.round(side * ratio));
    if (this.canvas.width !== pixels) this.canvas.width = this.canvas.height = pixels;
    this.ratio = pixels / side;
  }

  /** The mask has changed inside `rect` (null: everywhere): bring the layer up to date. */
  refresh(rect) {
    const { width, height, pixels } = this.mask;
    // A pixel's neighbours belong to it: whether they are at the margin may have changed.
    const left = rect ? Math.max(0, rect.left - 1) : 0;
    const top = rect ? Math.max(0, rect.top - 1) : 0;
    const right = rect ? Math.min(width, rect.right + 1) : width;
    const bottom = rect ? Math.min(height, rect.bottom + 1) : height;
    if (right <= left || bottom <= top) return;
    const image = this.layerContext.createImageData(right - left, bottom - top);
    const words = new Uint32Array(image.data.buffer);
    const inner = this.outlined ? 0 : word(COLOUR, this.opacity);
    const edge = word(this.outlined ? COLOUR : EDGE, this.outlined ? 1 : Math.max(this.opacity, 0.6));
    for (let y = top, j = 0; y < bottom; y++) {
      for (let x = left, i = y * width + left; x < right; x++, i++, j++) {
        if (!pixels[i]) continue;
        const whole =
          (x === 0 || pixels[i - 1]) &&
          (x === width - 1 || pixels[i + 1]) &&
          (y === 0 || pixels[i - width]) &&
          (y === height - 1 || pixels[i + width]);
        words[j] = whole ? inner : edge;
      }
    }
    this.layerContext.putImageData(image, left, top);
  }

  /** Paint what lies inside `rect` in pixels of the drawing; everything if it is null. */
  paint(rect) {
    const { context, view, ratio, canvas } = this;
    const scale = view.scale * ratio;
    const [x, y] = [view.x * ratio, view.y * ratio];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.save();
    context.beginPath();
    if (rect) {
      const left = Math.floor(x + (rect.left - 2) * scale);
      const top = Math.floor(y + (rect.top - 2) * scale);
      context.rect(left, top, Math.ceil((rect.right - rect.left + 4) * scale) + 2, Math.ceil((rect.bottom - rect.top + 4) * scale) + 2);
    } else {
      context.rect(0, 0, canvas.width, canvas.height);
    }
    context.clip();
    context.fillStyle = GROUND;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(scale, 0, 0, scale, x, y);
    context.imageSmoothingEnabled = view.scale < SMOOTH_BELOW;
    if (this.photo) context.drawImage(this.photo, 0, 0, this.mask.width, this.mask.height);
    const blend = this.image ? this.blend : 0;
    if (blend) {
      context.globalAlpha = blend;
      context.drawImage(this.image, 0, 0, this.mask.width, this.mask.height);
    }
    context.globalAlpha = 1 - blend;
    if (!this.hidden) context.drawImage(this.layer, 0, 0);
    context.globalAlpha = 1;
    context.restore();
  }
}

function word([red, green, blue], alpha) {
  return ((Math.round(alpha * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
