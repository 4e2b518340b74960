{
  # A bridge only: node-gyp, and with it `npm rebuild`, runs the CMake build.
  "targets": [
    {
      "target_name": "lowrank",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt", "package.json"],
          "outputs": ["<(PRODUCT_DIR)/lowrank.node"],
          "action": ["node", "scripts/native.mjs", "build", "--arch", "<(target_arch)", "--out", "<(PRODUCT_DIR)/lowrank.node"],
          "message": "building the native addon with CMake"
        }
      ]
    }
  ]
}
