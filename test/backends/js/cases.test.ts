/** The JavaScript backend on every op. */
import { runBackendTests, testCases } from "../common.ts";

testCases();
runBackendTests({ backend: "js" });
