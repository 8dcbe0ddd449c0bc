#!/bin/sh
# Uses the package from a project outside of the repository: nothing but a pom.xml and a program,
# with the package from a repository folder that holds nothing else (`mvn deploy` has filled it).
#   fresh.sh REPOSITORY_FOLDER
set -eu
packages=$1
version=$(basename "$(ls -d "$packages"/io/quorumlite/quorumlite/*/)")
project=$(mktemp -d)
# Maven keeps what it has fetched or installed once, so that has to stand aside.
own=$HOME/.m2/repository/io/quorumlite/quorumlite/$version
restore() {
    rm -rf "$own"
    if [ -d "$own.aside" ]; then mv "$own.aside" "$own"; fi
    rm -rf "$project"
}
trap restore EXIT
rm -rf "$own.aside"
if [ -d "$own" ]; then mv "$own" "$own.aside"; fi
cd "$project"
mkdir -p src/main/kotlin
cat >src/main/kotlin/Main.kt <<'END'
import io.quorumlite.QuorumliteException
import io.quorumlite.Quorumlite

suspend fun main(args: Array<String>) {
    Quorumlite.open(args[0]).use { node ->
        node.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
        node.execute("INSERT INTO t(name) VALUES (?)", "ann")
        println(node.query("SELECT * FROM t"))
        try {
            node.execute("INSERT INTO t VALUES (1, 'x')")
        } catch (e: QuorumliteException.Constraint) {
            println(e.code)
        }
    }
}
END
cat >pom.xml <<END
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>fresh</groupId>
  <artifactId>fresh</artifactId>
  <version>1</version>
  <properties>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
    <kotlin.compiler.daemon>false</kotlin.compiler.daemon>
  </properties>
  <repositories>
    <repository>
      <id>packages</id>
      <url>file://$packages</url>
    </repository>
  </repositories>
  <dependencies>
    <dependency>
      <groupId>io.quorumlite</groupId>
      <artifactId>quorumlite</artifactId>
      <version>$version</version>
    </dependency>
  </dependencies>
  <build>
    <sourceDirectory>src/main/kotlin</sourceDirectory>
    <plugins>
      <plugin>
        <groupId>org.jetbrains.kotlin</groupId>
        <artifactId>kotlin-maven-plugin</artifactId>
        <version>2.4.21</version>
        <executions>
          <execution>
            <phase>compile</phase>
            <goals>
              <goal>compile</goal>
            </goals>
            <configuration>
              <jvmTarget>17</jvmTarget>
            </configuration>
          </execution>
        </executions>
      </plugin>
    </plugins>
  </build>
</project>
END
mvn -q -B compile dependency:build-classpath -Dmdep.outputFile=class-path
java -cp "target/classes:$(cat class-path)" MainKt "$project/data" >output
printf '[{id=1, name=ann}]\nSQLITE_CONSTRAINT_PRIMARYKEY\n' | diff - output
