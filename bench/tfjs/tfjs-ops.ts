/**
 * The step's building blocks in the forms that are fastest on tfjs-backend-cpu 4.22. There a binary op whose operands
 * differ in a trailing dimension walks coordinates element by element (some 100 ns each); operands of equal shape, or of
 * which one lacks leading dimensions, take a plain loop. So factors per row are spread by an outer product with ones.
 */
import * as tf from "@tensorflow/tfjs-core";
import type { Linear, LinearGroup, SwigluWeights } from "./tfjs-weights.ts";

/** x [n, in] -> [n, out]. */
export function linear(x: tf.Tensor2D, { layout, w, out }: Linear): tf.Tensor2D {
  const [n, into] = x.shape;
  switch (layout) {
    case "conv1x1": {
      // Its loops run along a row of weights; matMul's sum one product after another.
      const pixels = tf.reshape(x, [1, n, 1, into]) as tf.Tensor4D;
      return tf.reshape(tf.conv2d(pixels, w as tf.Tensor4D, 1, "valid"), [n, out]);
    }
    case "transposeB":
      return tf.matMul(x, w as tf.Tensor2D, false, true);
    case "preTransposed":
      return tf.matMul(x, w as tf.Tensor2D);
  }
}

/** x [n, in] -> [n, out] of each part. */
export function linearGroup(x: tf.Tensor2D, { together, apart }: LinearGroup): tf.Tensor2D[] {
  if (x.shape[0] > 1) return apart.map((part) => linear(x, part));
  const y = linear(x, together);
  let at = 0;
  return apart.map(({ out }) => {
    const part = tf.slice(y, [0, at], [1, out]);
    at += out;
    return part;
  });
}

/** x / sqrt(sum(x^2) + size eps), the part of RMS norm that is not in the weights. x [n, size]. */
export function normalize(x: tf.Tensor2D, eps: number): tf.Tensor2D {
  const [n, size] = x.shape;
  if (n === 1) {
    const squares = tf.reshape(tf.matMul(x, x, false, true), []);
    return tf.mul(x, tf.rsqrt(tf.add(squares, size * eps)));
  }
  const squares = tf.sum(tf.square(x), 1);
  return tf.mul(x, spread(tf.rsqrt(tf.add(squares, size * eps)), size));
}

/** [n] -> [n, size]. */
export function spread(x: tf.Tensor, size: number): tf.Tensor2D {
  return tf.matMul(tf.reshape(x, [x.size, 1]) as tf.Tensor2D, tf.ones([1, size]) as tf.Tensor2D);
}

/** Softmax over the last dimension, x [n, s]. */
export function softmax(x: tf.Tensor2D): tf.Tensor2D {
  const size = x.shape[1];
  const e = tf.exp(tf.sub(x, spread(tf.max(x, 1), size)));
  return tf.div(e, spread(tf.sum(e, 1), size));
}

/** silu(gate) * up. */
export function activate(gate: tf.Tensor2D, up: tf.Tensor2D): tf.Tensor2D {
  return tf.mul(tf.mul(gate, tf.sigmoid(gate)), up);
}

/** x [n, hidden] -> [n, hidden]. */
export function swiglu(x: tf.Tensor2D, { gateUp, down }: SwigluWeights): tf.Tensor2D {
  const [gate, up] = linearGroup(x, gateUp);
  return linear(activate(gate!, up!), down);
}
