import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup.ts'],
    // Some tests run real training steps, on machines that may be busy.
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
