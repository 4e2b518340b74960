/**
 * The folder of this file; empty in a bundle of ES modules. A `.cts` file because only CommonJS has `__dirname`, and
 * both outputs may import CommonJS. It stays free of type annotations: vitest runs `.cts` files as they are.
 */
export const here = typeof __dirname === 'undefined' ? '' : __dirname
