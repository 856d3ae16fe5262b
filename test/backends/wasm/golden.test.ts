/** The text of an emitted kernel: names of the kernel, pointers that advance, distances as offsets. */
import { expect, test } from "vitest";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { hoistInvariants } from "../../../src/passes/kernel/hoist.ts";
import { vectorizeLoops } from "../../../src/passes/kernel/vectorize.ts";
import { compileKernel } from "./run-kernel.ts";

test("two rows of a matrix share a pointer", () => {
  const text = `kernel linear from "y = contract x, w" {
  read x: f32[64] // f32[1,64]
  read w: bf16[512] // bf16[8,64]
  write y: f32[8]
  grid n in 0 .. 8 step 2 {
    var a: f32 = 0.0
    var b: f32 = 0.0
    for k in 0 .. 64 {
      a = a + x[k] * w[n * 64 + k]
      b = b + x[k] * w[n * 64 + k + 64]
    }
    y[n] = a
    y[n + 1] = b
  }
}
`;
  expect(compileKernel(hoistInvariants(vectorizeLoops(parseKernel(text)))).source).toMatchInlineSnapshot(`
    ";; y = contract x, w
    (func $kernel (export "kernel") (param $x i32) (param $w i32) (param $y i32) (param $grid.begin i32) (param $grid.end i32)
      (local $value v128)
      (local $n i32)
      (local $n.end i32)
      (local $y.at i32)
      (local $a f32)
      (local $b f32)
      (local $a_lanes v128)
      (local $b_lanes v128)
      (local $offset i32)
      (local $k i32)
      (local $k.end i32)
      (local $x.at i32)
      (local $w.at i32)
      (local $x_at v128)
      (local $w_base i32)
      (local $t.v128 v128)
      (local $t.v128.2 v128)
      v128.const i8x16 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
      local.set $value
      local.get $grid.begin
      local.set $n
      local.get $grid.end
      local.set $n.end
      block $n.done
        local.get $n
        local.get $n.end
        i32.ge_s
        br_if $n.done
        local.get $y
        local.get $n
        i32.const 2
        i32.shl
        i32.add
        local.set $y.at
        loop $n.next
          f32.const 0
          local.set $a
          f32.const 0
          local.set $b
          local.get $value
          local.set $a_lanes
          local.get $value
          local.set $b_lanes
          local.get $n
          i32.const 64
          i32.mul
          local.set $offset
          i32.const 0
          local.set $k
          block $k.done
            local.get $k
            i32.const 64
            i32.ge_s
            br_if $k.done
            local.get $x
            local.get $k
            i32.const 2
            i32.shl
            i32.add
            local.set $x.at
            local.get $w
            local.get $offset
            i32.const 1
            i32.shl
            i32.add
            local.get $k
            i32.const 1
            i32.shl
            i32.add
            local.set $w.at
            loop $k.next
              local.get $x.at
              v128.load
              local.set $x_at
              local.get $offset
              local.get $k
              i32.add
              local.set $w_base
              local.get $x_at
              local.get $w.at
              v128.load16x4_u
              i32.const 16
              i32x4.shl
              local.get $a_lanes
              f32x4.relaxed_madd
              local.set $a_lanes
              local.get $x_at
              local.get $w.at
              v128.load16x4_u offset=128
              i32.const 16
              i32x4.shl
              local.get $b_lanes
              f32x4.relaxed_madd
              local.set $b_lanes
              local.get $x.at
              i32.const 16
              i32.add
              local.set $x.at
              local.get $w.at
              i32.const 8
              i32.add
              local.set $w.at
              local.get $k
              i32.const 4
              i32.add
              local.set $k
              local.get $k
              i32.const 64
              i32.lt_s
              br_if $k.next
            end
          end
          local.get $a
          local.get $a_lanes
          local.set $t.v128
          local.get $t.v128
          local.get $t.v128
          local.get $t.v128
          i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15
          f32x4.add
          local.set $t.v128
          local.get $t.v128
          f32x4.extract_lane 0
          local.get $t.v128
          f32x4.extract_lane 1
          f32.add
          f32.add
          local.set $a
          local.get $b
          local.get $b_lanes
          local.set $t.v128.2
          local.get $t.v128.2
          local.get $t.v128.2
          local.get $t.v128.2
          i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15
          f32x4.add
          local.set $t.v128.2
          local.get $t.v128.2
          f32x4.extract_lane 0
          local.get $t.v128.2
          f32x4.extract_lane 1
          f32.add
          f32.add
          local.set $b
          local.get $y.at
          local.get $a
          f32.store
          local.get $y.at
          local.get $b
          f32.store offset=4
          local.get $y.at
          i32.const 8
          i32.add
          local.set $y.at
          local.get $n
          i32.const 2
          i32.add
          local.set $n
          local.get $n
          local.get $n.end
          i32.lt_s
          br_if $n.next
        end
      end
    )"
  `);
});
