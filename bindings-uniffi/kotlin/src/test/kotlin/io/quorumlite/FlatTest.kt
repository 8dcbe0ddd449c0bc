package io.quorumlite

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.condition.EnabledOnOs
import org.junit.jupiter.api.condition.OS

internal class FlatTest {
    @Test
    @EnabledOnOs(OS.LINUX, disabledReason = "reads /proc")
    fun `memory and file descriptors stay flat`() {
        val opens = System.getProperty("quorumlite.opens")
        val calls = System.getProperty("quorumlite.calls")
        // A fixed heap, so that what the JVM takes for itself is not mistaken for a leak.
        val options = listOf("-Xms128m", "-Xmx128m", "-XX:+AlwaysPreTouch")
        val ended = jvm("io.quorumlite.FlatKt", opens, calls, options = options).run(minutes = 60)
        println(ended.output)
        assertEquals(0, ended.status, ended.output)
    }
}
