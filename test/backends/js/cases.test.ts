/** The JavaScript backend on every op. */
import { runBackendTests, testCases } from "../run-backend-tests.ts";

testCases();
runBackendTests({ backend: "js" });
