/**
 * Seeds of property tests: the same in every run, so that whoever runs the suite sees what everybody sees. `npm run
 * test:fuzz` draws new ones (`FUZZ=1`), and `FUZZ=<number>` runs a reported seed again.
 */
import fc from "fast-check";

const fuzz = process.env.FUZZ;
const fixed = 20_261_123;
const drawn = fuzz === "1" ? Date.now() & 0x7fffffff : Number(fuzz ?? fixed);
fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number.isInteger(drawn) ? drawn : fixed });
